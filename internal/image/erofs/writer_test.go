package erofs_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/erofs"
	"dougong.dev/dougong/internal/image/erofs/erofstest"
)

type entries = map[string]erofs.Entry

func dir(e entries) *erofs.Inode {
	return &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: e}
}

func in(n *erofs.Inode) erofs.Entry { return erofs.Entry{Inode: n} }

// build writes an image whose root is given by tree, and returns its path.
func build(t testing.TB, tree func(w *erofs.Writer) *erofs.Inode) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := erofs.NewWriter(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(tree(w), [16]byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func file(t testing.TB, w *erofs.Writer, content []byte) *erofs.Inode {
	t.Helper()
	d, err := w.Data(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return &erofs.Inode{Mode: unix.S_IFREG | 0o644, Data: d}
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func TestFileSizes(t *testing.T) {
	sizes := []int{0, 1, 63, 2047, 2048, 2049, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20, 3<<20 + 17}
	want := map[string][]byte{}
	path := build(t, func(w *erofs.Writer) *erofs.Inode {
		e := entries{}
		for _, n := range sizes {
			name := fmt.Sprint(n)
			want[name] = noise(n)
			e[name] = in(file(t, w, want[name]))
		}
		return dir(e)
	})
	root := erofstest.Mount(t, path)
	erofstest.Check(t, path)
	for name, b := range want {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("file of %s bytes: read %d bytes, error %v: content differs", name, len(got), err)
		}
	}
}

func TestHoles(t *testing.T) {
	const chunk = 64 << 10
	content := map[string][]byte{
		"all-zero":   make([]byte, 10*chunk),
		"zero-odd":   make([]byte, 3*chunk+5),
		"zero-small": make([]byte, 5000),
		"head":       append(make([]byte, 4*chunk), noise(2*chunk+9)...),
		"tail":       append(noise(3*chunk), make([]byte, 5*chunk+1)...),
		"middle":     append(append(noise(2*chunk), make([]byte, 7*chunk)...), noise(chunk)...),
	}
	path := build(t, func(w *erofs.Writer) *erofs.Inode {
		e := entries{}
		for name, b := range content {
			e[name] = in(file(t, w, b))
		}
		return dir(e)
	})
	root := erofstest.Mount(t, path)
	erofstest.Check(t, path)
	for name, b := range content {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: content differs, error %v", name, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 10*chunk {
		t.Errorf("image of 8 chunks of data has %d bytes (error %v): holes were written", info.Size(), err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLargerThan4GiB(t *testing.T) {
	const size = 5<<30 + 123
	tail := []byte("the end")
	path := build(t, func(w *erofs.Writer) *erofs.Inode {
		r := io.MultiReader(io.LimitReader(zeroReader{}, size-int64(len(tail))), bytes.NewReader(tail))
		d, err := w.Data(r, size)
		if err != nil {
			t.Fatal(err)
		}
		return dir(entries{"big": in(&erofs.Inode{Mode: unix.S_IFREG | 0o600, Data: d})})
	})
	f, err := os.Open(filepath.Join(erofstest.Mount(t, path), "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != size {
		t.Errorf("size %d, error %v: want %d", info.Size(), err, int64(size))
	}
	got := make([]byte, len(tail)+3)
	if _, err := f.ReadAt(got, size-int64(len(got))); err != nil || string(got) != "\x00\x00\x00the end" {
		t.Errorf("last bytes %q, error %v", got, err)
	}
}

func TestAttributes(t *testing.T) {
	big := map[string]string{}
	for i := range 30 {
		big[fmt.Sprintf("user.a%d", i)] = strings.Repeat("v", 300+i)
	}
	nodes := map[string]*erofs.Inode{
		"setuid":                 {Mode: unix.S_IFREG | 0o4755, UID: 1 << 31, GID: 4_000_000_000},
		"old":                    {Mode: unix.S_IFREG | 0o400, Mtime: -86400, MtimeNsec: 7},
		"future":                 {Mode: unix.S_IFREG, Mtime: 1 << 33, MtimeNsec: 999999999},
		"char":                   {Mode: unix.S_IFCHR | 0o666, Rdev: erofs.Mkdev(1, 3)},
		"block":                  {Mode: unix.S_IFBLK | 0o660, Rdev: erofs.Mkdev(259, 70000)},
		"fifo":                   {Mode: unix.S_IFIFO | 0o600},
		"sock":                   {Mode: unix.S_IFSOCK | 0o777},
		"sticky":                 {Mode: unix.S_IFDIR | 0o1777},
		"short":                  {Mode: unix.S_IFLNK | 0o777, Target: "../../x"},
		"long":                   {Mode: unix.S_IFLNK | 0o777, Target: strings.Repeat("ab/", 1365)},
		"biglnk":                 {Mode: unix.S_IFLNK | 0o777, Target: strings.Repeat("ab/", 1300), Xattrs: map[string]string{"security.x": strings.Repeat("s", 400)}},
		"xattr":                  {Mode: unix.S_IFREG | 0o644, Xattrs: map[string]string{"user.k": "v\x00w", "user.empty": "", "security.capability": "\x01\x00\x00\x02" + strings.Repeat("\x00", 16)}},
		"xdir":                   {Mode: unix.S_IFDIR | 0o755, Xattrs: map[string]string{"trusted.t": "1"}},
		"xbig":                   {Mode: unix.S_IFREG | 0o644, Xattrs: big},
		"x64k":                   {Mode: unix.S_IFREG | 0o644, Xattrs: map[string]string{"user.max": strings.Repeat("m", 65535)}},
		strings.Repeat("n", 255): {Mode: unix.S_IFREG | 0o644},
		" !\n\xff":               {Mode: unix.S_IFREG | 0o644},
	}
	path := build(t, func(*erofs.Writer) *erofs.Inode {
		e := entries{}
		for name, n := range nodes {
			e[name] = in(n)
		}
		return dir(e)
	})
	root := erofstest.Mount(t, path)
	erofstest.Check(t, path)
	for name, n := range nodes {
		compare(t, filepath.Join(root, name), n)
	}
}

func compare(t *testing.T, path string, n *erofs.Inode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Error(err)
		return
	}
	st := info.Sys().(*syscall.Stat_t)
	got := []any{st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec}
	want := []any{n.Mode, n.UID, n.GID, n.Mtime, int64(n.MtimeNsec)}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%.30s: mode, uid, gid, mtime (-want +got):\n%s", filepath.Base(path), d)
	}
	if n.Rdev != 0 {
		if erofs.Mkdev(unix.Major(st.Rdev), unix.Minor(st.Rdev)) != n.Rdev {
			t.Errorf("%s: device %d:%d", path, unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
	}
	if n.Target != "" {
		if target, err := os.Readlink(path); target != n.Target {
			t.Errorf("%s: target of %d bytes, want %d, error %v", path, len(target), len(n.Target), err)
		}
	}
	for name, value := range n.Xattrs {
		buf := make([]byte, 1<<16)
		size, err := unix.Lgetxattr(path, name, buf)
		if err != nil || string(buf[:max(size, 0)]) != value {
			t.Errorf("%s: attribute %s: %d bytes, error %v", path, name, size, err)
		}
	}
}

func TestDirectories(t *testing.T) {
	const n = 20000
	path := build(t, func(w *erofs.Writer) *erofs.Inode {
		e := entries{"!": in(file(t, w, nil)), "-": in(file(t, w, nil)), ".a": in(file(t, w, nil))}
		for i := range n {
			name := fmt.Sprintf("%d-%s", i, strings.Repeat("x", i%200))
			e[name] = in(file(t, w, []byte(name)))
		}
		return dir(entries{"many": in(dir(e)), "empty": in(dir(nil))})
	})
	root := erofstest.Mount(t, path)
	erofstest.Check(t, path)
	list, err := os.ReadDir(filepath.Join(root, "many"))
	if err != nil || len(list) != n+3 {
		t.Fatalf("%d entries, error %v: want %d", len(list), err, n+3)
	}
	for _, e := range list[:2000] {
		b, err := os.ReadFile(filepath.Join(root, "many", e.Name()))
		if err != nil || len(b) > 0 && string(b) != e.Name() {
			t.Fatalf("%s: read %q, error %v", e.Name(), b, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil || st.Nlink != 4 {
		t.Errorf("root has %d links, error %v: want 4", st.Nlink, err)
	}
	if err := unix.Stat(filepath.Join(root, "empty", ".."), &st); err != nil || st.Nlink != 4 {
		t.Errorf("empty/.. is not the root: %d links, error %v", st.Nlink, err)
	}
}

func TestHardLinks(t *testing.T) {
	path := build(t, func(w *erofs.Writer) *erofs.Inode {
		n := file(t, w, []byte("shared"))
		return dir(entries{"a": in(n), "b": in(n), "d": in(dir(entries{"c": in(n)}))})
	})
	root := erofstest.Mount(t, path)
	erofstest.Check(t, path)
	var a, c unix.Stat_t
	_ = unix.Stat(filepath.Join(root, "a"), &a)
	_ = unix.Stat(filepath.Join(root, "d/c"), &c)
	if a.Ino != c.Ino || a.Nlink != 3 || a.Size != 6 {
		t.Errorf("a %+v, c %+v: want one inode with 3 links", a, c)
	}
}

func TestReplacedContentIsFreed(t *testing.T) {
	path := build(t, func(w *erofs.Writer) *erofs.Inode {
		file(t, w, noise(8<<20)) // in no directory
		return dir(entries{"kept": in(file(t, w, noise(1<<20)))})
	})
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > 2<<20 {
		t.Errorf("image takes %d bytes on disk, error %v: unused content was kept", st.Blocks*512, err)
	}
	erofstest.Check(t, path)
}

func TestReproducible(t *testing.T) {
	image := func() []byte {
		path := build(t, func(w *erofs.Writer) *erofs.Inode {
			e := entries{}
			for i := range 300 {
				e[fmt.Sprint(i)] = in(file(t, w, bytes.Repeat([]byte{byte(i)}, i*50)))
			}
			return dir(e)
		})
		b, _ := os.ReadFile(path)
		return b
	}
	if !bytes.Equal(image(), image()) {
		t.Error("the same tree gave two different images")
	}
}

func TestBadTrees(t *testing.T) {
	twice := dir(nil)
	tests := map[string]struct {
		root *erofs.Inode
		want string
	}{
		"root is a file":   {&erofs.Inode{Mode: unix.S_IFREG}, "must be a directory"},
		"long name":        {dir(entries{strings.Repeat("n", 256): in(dir(nil))}), "256 bytes"},
		"empty name":       {dir(entries{"": in(dir(nil))}), "0 bytes"},
		"directory cycle":  {dir(entries{"a": in(twice), "b": in(twice)}), "linked twice"},
		"no type":          {dir(entries{"a": in(&erofs.Inode{Mode: 0o644})}), "no known file type"},
		"empty link":       {dir(entries{"a": in(&erofs.Inode{Mode: unix.S_IFLNK})}), "0 bytes"},
		"xattr namespace":  {dir(entries{"a": in(&erofs.Inode{Mode: unix.S_IFREG, Xattrs: map[string]string{"x.y": ""}})}), "no such namespace"},
		"xattr value":      {dir(entries{"a": in(&erofs.Inode{Mode: unix.S_IFREG, Xattrs: map[string]string{"user.x": strings.Repeat("v", 65536)}})}), "65536 bytes"},
		"too many xattrs ": {dir(entries{"a": in(&erofs.Inode{Mode: unix.S_IFREG, Xattrs: manyXattrs()})}), "more than EROFS's"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "x"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			w, _ := erofs.NewWriter(f)
			if _, err := w.Finish(test.root, [16]byte{}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func manyXattrs() map[string]string {
	m := map[string]string{}
	for i := range 5 {
		m[fmt.Sprint("user.", i)] = strings.Repeat("v", 60000)
	}
	return m
}

func TestShortContent(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, _ := erofs.NewWriter(f)
	for _, size := range []int64{10, 100000} {
		if _, err := w.Data(strings.NewReader("short"), size); err != io.ErrUnexpectedEOF { //nolint:errorlint // exact
			t.Errorf("size %d: error %v, want %v", size, err, io.ErrUnexpectedEOF)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	data := noise(64 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		build(b, func(w *erofs.Writer) *erofs.Inode {
			return dir(entries{"f": in(file(b, w, data))})
		})
	}
}
