package layer_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/erofs/erofstest"
	"dougong.dev/dougong/internal/image/layer"
)

func compress(t testing.TB, c layer.Compression, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch c {
	case layer.Gzip:
		w = gzip.NewWriter(&out)
	case layer.Zstd:
		w, err = zstd.NewWriter(&out)
	default:
		return b
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sparse gives a tar of one sparse file in GNU's old format, of a size with
// data at its end. The standard library writes no such tar.
func sparse(size int64, data []byte) []byte {
	h := make([]byte, 512)
	copy(h[0:], "sparse")
	copy(h[100:], "0000644\x00")
	copy(h[108:], "0000000\x00")
	copy(h[116:], "0000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00", len(data)))
	copy(h[136:], "00000000000\x00")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	number := func(at int, n int64) { // base 256, as GNU has large numbers
		h[at] = 0x80
		for i := range 8 {
			h[at+11-i] = byte(n >> (8 * i))
		}
	}
	number(386, size-int64(len(data)))
	number(398, int64(len(data)))
	number(483, size)
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	out := append(h, data...)
	return append(out, make([]byte, 512-len(data)+1024)...)
}

func TestSparseFileOver4GiB(t *testing.T) {
	const size = 5<<30 + 1
	path, err := apply(t, layer.DefaultLimits(), sparse(size, []byte("the end")))
	if err != nil {
		t.Fatal(err)
	}
	erofstest.Check(t, path)
	f, err := os.Open(filepath.Join(erofstest.Mount(t, path), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	end := make([]byte, 8)
	if n, err := f.ReadAt(end, size-8); n != 8 || string(end) != "\x00the end" {
		t.Errorf("last bytes %q, error %v", end, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("image takes %d bytes on disk, error %v", st.Blocks*512, err)
	}
}

// TestSparseFormats reads what GNU tar writes in each of its formats.
func TestSparseFormats(t *testing.T) {
	tool, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("tar is not installed")
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 40 { // many regions: extended headers in the old format
		if _, err := f.WriteAt([]byte(fmt.Sprint("region ", i)), int64(i)*300_000+7); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(20 << 20); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"} {
		args := []string{"-C", dir, "-S", "-c", "file", format}
		if format != "--format=gnu" {
			args = append(args, "--format=posix")
		}
		out, err := exec.Command(tool, args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		path, err := apply(t, layer.DefaultLimits(), out)
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		got, err := os.ReadFile(filepath.Join(erofstest.Mount(t, path), "file"))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, error %v: content differs", format, len(got), err)
		}
		if len(out) >= len(want) {
			t.Errorf("%s: tar is not sparse, so nothing was tested", format)
		}
	}
}
