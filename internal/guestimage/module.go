package guestimage

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// moduleWish is a module the guest wants, and when.
type moduleWish struct {
	name string
	// devices are the PCI device ids of virtio devices that need it; the
	// guest loads it only where one of them is plugged in. None: always.
	devices []string
	// onDemand has the guest load it only for containers that can use it.
	onDemand bool
}

// demandPrefix stands before the name of a module that is loaded on demand,
// among the conditions of those that it consists of.
const demandPrefix = "demand:"

// conditions are what the guest loads it for; none means always.
func (w moduleWish) conditions() []string {
	if w.onDemand {
		return []string{demandPrefix + w.name}
	}
	return w.devices
}

// wishes are the modules of a guest, the ones needed first at the top. A
// kernel that has one built in is as good.
var wishes = []moduleWish{
	{name: "virtio_pci"},
	{name: "virtio_console"},
	{name: "virtio_blk", devices: []string{"1001", "1042"}},
	{name: "erofs", devices: []string{"1001", "1042"}},
	{name: "overlay"},
	{name: "virtiofs", devices: []string{"105a"}},
	{name: "virtio_net", devices: []string{"1000", "1041"}},
	{name: "vmw_vsock_virtio_transport", devices: []string{"1012", "1053"}},
	{name: "virtio_balloon", devices: []string{"1002", "1045"}},
	{name: "virtio_mem", devices: []string{"1058"}},
	{name: "virtio_rng", devices: []string{"1005", "1044"}},
	{name: "bridge", onDemand: true},
}

// module is one file in the initramfs.
type module struct {
	name    string
	content []byte
	devices []string
}

// moduleIndex finds modules by name.
type moduleIndex struct {
	files   map[string]string
	builtin map[string]bool
}

// canonical is a module's name as the kernel has it: dashes are underscores.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// moduleName strips directory and suffixes from a module's path.
func moduleName(path string) (string, bool) {
	base := filepath.Base(path)
	for _, suffix := range []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"} {
		if name, ok := strings.CutSuffix(base, suffix); ok {
			return canonical(name), true
		}
	}
	return "", false
}

func indexModules(dir string) (*moduleIndex, error) {
	index := &moduleIndex{files: map[string]string{}, builtin: map[string]bool{}}
	if dir == "" {
		return index, nil
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, ok := moduleName(path); ok && err == nil {
			index.files[name] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("list built-in modules: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		if name, ok := moduleName(strings.TrimSpace(line)); ok {
			index.builtin[name] = true
		}
	}
	return index, nil
}

// resolve returns the wished modules with what they depend on, each after
// its dependencies.
func (x *moduleIndex) resolve(wishes []moduleWish) ([]module, error) {
	var out []module
	place := map[string]int{}
	var visit func(name string, devices []string) error
	visit = func(name string, devices []string) error {
		if i, ok := place[name]; ok {
			out[i].devices = union(out[i].devices, devices)
			return nil
		}
		path, ok := x.files[name]
		if !ok {
			// Built in, or a kernel without any module: the boot will tell.
			return nil
		}
		content, err := readModule(path)
		if err != nil {
			return err
		}
		depends, err := dependencies(content)
		if err != nil {
			return fmt.Errorf("module %s: %w", path, err)
		}
		for _, d := range depends {
			if err := visit(canonical(d), devices); err != nil {
				return err
			}
		}
		place[name] = len(out)
		out = append(out, module{name: name, content: stripModule(content), devices: devices})
		return nil
	}
	for _, w := range wishes {
		if err := visit(w.name, w.conditions()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// union joins two conditions; no condition at all wins.
func union(a, b []string) []string {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// readModule reads a module, unpacked: the guest loads it without any tool.
func readModule(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read kernel module: %w", err)
	}
	switch filepath.Ext(path) {
	case ".xz":
		data, err = decompressXZ(data)
	case ".zst":
		var r *zstd.Decoder
		if r, err = zstd.NewReader(bytes.NewReader(data)); err == nil {
			defer r.Close()
			data, err = readBounded(r)
		}
	case ".gz":
		var r io.ReadCloser
		if r, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
			data, err = readBounded(r)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("unpack kernel module %s: %w", path, err)
	}
	return data, nil
}

// dependencies reads the names of the modules that a module needs from its
// .modinfo section. Packages come without modules.dep, which depmod makes.
func dependencies(content []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("read ELF: %w", err)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read .modinfo: %w", err)
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(field, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ","), nil
		}
	}
	return nil, nil
}
