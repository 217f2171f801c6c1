package guestimage

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// tinyELF is an ELF executable with one segment of notes.
func tinyELF(notes []byte) []byte {
	const headers = 64 + 56
	var b bytes.Buffer
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	_ = binary.Write(&b, binary.LittleEndian, header)
	_ = binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: headers, Filesz: uint64(len(notes)), Memsz: uint64(len(notes))})
	b.Write(notes)
	return b.Bytes()
}

// note is one ELF note.
func note(name string, kind uint32, desc []byte) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, []uint32{uint32(len(name) + 1), uint32(len(desc)), kind})
	for _, part := range []string{name + "\x00", string(desc)} {
		b.WriteString(part)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	return b.Bytes()
}

// bzImage wraps a payload as the kernel's build does.
func bzImage(payload []byte) []byte {
	const sects = 1
	image := make([]byte, (sects+1)*512)
	image[offSetupSects] = sects
	copy(image[offMagic:], "HdrS")
	binary.LittleEndian.PutUint16(image[offVersion:], 0x20f)
	binary.LittleEndian.PutUint32(image[offPayloadLength:], uint32(len(payload)))
	return append(append(image, payload...), "what follows the payload"...)
}

// withSize appends the unpacked size, as the kernel's build does for most
// kinds of compression.
func withSize(packed []byte, size int) []byte {
	return binary.LittleEndian.AppendUint32(packed, uint32(size))
}

type packer func(t *testing.T, plain []byte) []byte

func streamPacker(open func(io.Writer) (io.WriteCloser, error)) packer {
	return func(t *testing.T, plain []byte) []byte {
		t.Helper()
		var b bytes.Buffer
		w, err := open(&b)
		if err == nil {
			_, err = w.Write(plain)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
}

var packers = map[string]packer{
	"gzip": streamPacker(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }),
	"zstd": streamPacker(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
	"lz4": streamPacker(func(w io.Writer) (io.WriteCloser, error) {
		z := lz4.NewWriter(w)
		return z, z.Apply(lz4.LegacyOption(true))
	}),
	"xz": func(t *testing.T, plain []byte) []byte {
		t.Helper()
		cmd := exec.Command("xz", "--check=crc32", "--x86", "--lzma2")
		cmd.Stdin = bytes.NewReader(plain)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("xz (package xz-utils): %v", err)
		}
		return out
	},
}

func TestUnpackKnowsEveryCompression(t *testing.T) {
	want := tinyELF(bytes.Repeat([]byte("kernel code "), 1000))
	for name, pack := range packers {
		t.Run(name, func(t *testing.T) {
			packed := pack(t, want)
			if name != "gzip" {
				packed = withSize(packed, len(want))
			}
			got, err := Unpack(bzImage(packed))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, want %d", len(got), len(want))
			}
		})
	}
	t.Run("plain", func(t *testing.T) {
		if got, err := Unpack(want); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
}

func TestUnpackRefuses(t *testing.T) {
	good := bzImage(packers["gzip"](t, tinyELF(nil)))
	change := func(edit func([]byte)) []byte {
		image := slices.Clone(good)
		edit(image)
		return image
	}
	for name, c := range map[string]struct {
		image []byte
		want  string
	}{
		"nothing":      {nil, "neither ELF nor a bzImage"},
		"text":         {bytes.Repeat([]byte("text"), 1000), "neither ELF nor a bzImage"},
		"old protocol": {change(func(b []byte) { b[offVersion] = 7 }), "too old"},
		"long payload": {change(func(b []byte) { b[offPayloadLength+3] = 0x7f }), "cut short"},
		"far payload":  {change(func(b []byte) { b[offPayload+3] = 0xff }), "cut short"},
		"cut":          {good[:len(good)-40], "cut short"},
		"damaged":      {change(func(b []byte) { b[1024+15] ^= 0xff }), "unpack"},
		"unknown":      {bzImage([]byte("something else")), "not known"},
		"not ELF":      {bzImage(packers["gzip"](t, []byte("hello"))), "not ELF"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Unpack(c.image); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestReadAtMostRefusesBombs(t *testing.T) {
	const limit = 1 << 10
	if data, err := readAtMost(io.LimitReader(zeros{}, limit), limit); err != nil || len(data) != limit {
		t.Errorf("at the limit: %d bytes, %v", len(data), err)
	}
	if _, err := readAtMost(zeros{}, limit); err == nil {
		t.Error("more than the limit was taken")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func FuzzUnpackHeader(f *testing.F) {
	f.Add(bzImage([]byte("payload")))
	f.Add([]byte("HdrS"))
	f.Fuzz(func(t *testing.T, image []byte) {
		payload, err := bzImagePayload(image)
		if err == nil && len(payload) > len(image) {
			t.Errorf("a payload of %d bytes in %d", len(payload), len(image))
		}
	})
}

func TestCheckPVH(t *testing.T) {
	entry := note("Xen", notePVHEntry, make([]byte, 8))
	other := note("GNU", 3, []byte("build"))
	for name, c := range map[string]struct {
		notes []byte
		ok    bool
	}{
		"alone":      {entry, true},
		"behind":     {slices.Concat(other, note("Xen", 5, nil), entry), true},
		"none":       {nil, false},
		"other name": {note("Not", notePVHEntry, nil), false},
		"cut":        {entry[:len(entry)-4], false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkPVH(tinyELF(c.notes)); (err == nil) != c.ok {
				t.Errorf("got %v, want success: %t", err, c.ok)
			}
		})
	}
	arm := tinyELF(entry)
	arm[18] = byte(elf.EM_AARCH64)
	if err := checkPVH(arm); err == nil || !strings.Contains(err.Error(), "x86-64") {
		t.Errorf("a kernel for another machine: %v", err)
	}
}

func FuzzHasNote(f *testing.F) {
	f.Add(note("Xen", notePVHEntry, make([]byte, 8)))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\x12\x00\x00\x00"))
	f.Fuzz(func(_ *testing.T, notes []byte) { hasNote(notes, "Xen", notePVHEntry) })
}

func TestFindKernelPrefersNewestForVMs(t *testing.T) {
	const monolithic = "CONFIG_X86=y\n# CONFIG_MODULES is not set\n"
	cloud := []string{"boot/vmlinuz-6.1.0-9-cloud-amd64", "boot/vmlinuz-6.1.0-10-cloud-amd64", "boot/vmlinuz-6.12.0-1-amd64"}
	for name, c := range map[string]struct {
		images  []string
		configs map[string]string
		want    string
		modules bool
	}{
		"cloud":               {images: cloud, want: "vmlinuz-6.1.0-10-cloud-amd64", modules: true},
		"without its modules": {images: cloud, configs: map[string]string{"6.1.0-11-cloud-amd64": "CONFIG_MODULES=y\n"}, want: "vmlinuz-6.1.0-10-cloud-amd64", modules: true},
		"trimmed":             {images: cloud, configs: map[string]string{"6.1.0-dougong": monolithic}, want: "vmlinux-6.1.0-dougong"},
		"two trimmed":         {configs: map[string]string{"6.1.9-dougong": monolithic, "6.1.10-dougong": monolithic}, want: "vmlinux-6.1.10-dougong"},
		"packed and unpacked": {images: []string{"boot/vmlinux-6.1.0", "boot/vmlinuz-6.1.0"}, want: "vmlinux-6.1.0", modules: true},
		"only elsewhere":      {images: []string{"boot/vmlinuz-6.12.0-1-amd64"}, want: "vmlinuz-6.12.0-1-amd64", modules: true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, image := range c.images {
				write(t, filepath.Join(root, image), "")
				write(t, filepath.Join(root, "lib", "modules", kernelRelease(image), "modules.builtin"), "")
			}
			for release, configuration := range c.configs {
				write(t, filepath.Join(root, "boot", "vmlinux-"+release), "")
				write(t, filepath.Join(root, "boot", "config-"+release), configuration)
			}
			kernel, err := FindKernel(root)
			if err != nil || filepath.Base(kernel.Image) != c.want || (kernel.Modules != "") != c.modules || !strings.HasSuffix(c.want, "-"+kernel.Release) {
				t.Errorf("got %+v, %v, want %s, with modules: %t", kernel, err, c.want, c.modules)
			}
		})
	}
}

func TestFindKernelTellsWhereToGetOne(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "boot", "vmlinuz-6.1.0-11-cloud-amd64"), "neither modules nor configuration")
	for _, dir := range []string{root, t.TempDir()} {
		if _, err := FindKernel(dir); err == nil || !strings.Contains(err.Error(), "fetch-kernel.sh") {
			t.Errorf("without a usable kernel: %v", err)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	ascending := []string{"", "5.9", "5.10", "5.10-1", "5.10-02", "5.10-3a", "6", "x"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := compareVersions(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("compare %q with %q: %d", a, b, got)
			}
		}
	}
}

// write makes a file with its directories.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
