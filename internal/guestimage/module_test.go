package guestimage

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tinyModule is a relocatable file whose .modinfo says what it depends on.
func tinyModule(depends string) []byte {
	info := "license=GPL\x00depends=" + depends + "\x00name=x\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	const headerSize, sectionSize = 64, 64
	var b bytes.Buffer
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: headerSize,
		Shoff: uint64(headerSize + len(info) + len(names)), Shentsize: sectionSize, Shnum: 3, Shstrndx: 2,
	}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	put(header)
	b.WriteString(info + names)
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: headerSize, Size: uint64(len(info))})
	put(elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(headerSize + len(info)), Size: uint64(len(names))})
	return b.Bytes()
}

// moduleTree writes a directory of modules: two roots that share what they
// depend on, packed in every way.
func moduleTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(tinyModule(""))
	_ = w.Close()
	for path, content := range map[string]string{
		"kernel/virtio.ko.gz":          packed.String(),
		"kernel/virtio-ring.ko.zst":    string(packers["zstd"](t, tinyModule("virtio"))),
		"kernel/drivers/virtio-pci.ko": string(tinyModule("virtio-ring,virtio")),
		"kernel/fs/overlay.ko.xz":      string(packers["xz"](t, tinyModule(""))),
		"kernel/net/net.ko":            string(tinyModule("virtio-ring,unlucky")),
		"kernel/unlucky.ko":            string(tinyModule("")),
		"modules.builtin":              "kernel/fs/ext4/ext4.ko\n",
	} {
		write(t, filepath.Join(dir, path), content)
	}
	return dir
}

func TestResolveOrdersModules(t *testing.T) {
	index, err := indexModules(moduleTree(t))
	if err != nil {
		t.Fatal(err)
	}
	modules, err := index.resolve([]moduleWish{
		{name: "net", devices: []string{"1041"}},
		{name: "virtio_pci"},
		{name: "overlay", devices: []string{"2", "1"}},
		{name: "ext4"},
		{name: "absent"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range modules {
		if !bytes.HasPrefix(m.content, []byte(elf.ELFMAG)) {
			t.Errorf("%s is still packed", m.name)
		}
		got = append(got, strings.TrimSpace(m.name+" "+strings.Join(m.devices, " ")))
	}
	// What somebody needs always is loaded always, whoever else needs it.
	want := []string{"virtio", "virtio_ring", "unlucky 1041", "net 1041", "virtio_pci", "overlay 2 1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestResolveNamesTheDamagedModule(t *testing.T) {
	for name, content := range map[string]string{
		"bad.ko":     "no ELF",
		"bad.ko.xz":  "no xz",
		"bad.ko.zst": "no zstd",
		"bad.ko.gz":  "no gzip",
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "modules.builtin"), "")
		write(t, filepath.Join(dir, name), content)
		index, err := indexModules(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := index.resolve([]moduleWish{{name: "bad"}}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want an error that names it", name, err)
		}
	}
}

func TestIndexWithoutModules(t *testing.T) {
	index, err := indexModules("")
	if err != nil {
		t.Fatal(err)
	}
	if modules, err := index.resolve(wishes); err != nil || len(modules) != 0 {
		t.Errorf("a kernel with everything built in: %v, %v", modules, err)
	}
	if _, err := indexModules(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that is not there was taken for an empty one")
	}
}

func TestDebianKernelHasWhatGuestsWant(t *testing.T) {
	index, err := indexModules(testKernel(t).Modules)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wishes {
		if index.files[w.name] == "" && !index.builtin[w.name] {
			t.Errorf("module %s is neither there nor built in", w.name)
		}
	}
	modules, err := index.resolve(wishes)
	if err != nil {
		t.Fatal(err)
	}
	var loaded []string
	for _, m := range modules {
		depends, err := dependencies(m.content)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range depends {
			if !slices.Contains(loaded, canonical(d)) {
				t.Errorf("%s is loaded before %s, which it needs", m.name, d)
			}
		}
		loaded = append(loaded, m.name)
	}
}

func FuzzDependencies(f *testing.F) {
	f.Add(tinyModule("a,b"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(_ *testing.T, module []byte) { _, _ = dependencies(module) })
}
