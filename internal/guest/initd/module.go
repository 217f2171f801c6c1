package initd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesFile is written with the initramfs: on each line the path of a
// module, in the order of loading, and behind it the ids of the PCI devices
// that call for it, or "demand:NAME" for what Demand loads. Nothing means:
// always.
const modulesFile = "/etc/dougong/modules"

// loadModules loads what the list asks for on this machine.
func loadModules(list, pciDevices string) error {
	data, err := os.ReadFile(list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the list of modules: %w", err)
	}
	plugged, err := pluggedDevices(pciDevices)
	if err != nil {
		return err
	}
	all, err := wantsAll("/proc/cmdline")
	if err != nil {
		return err
	}
	for _, path := range selectModules(string(data), plugged, all) {
		if err := loadModule(path); err != nil {
			return err
		}
	}
	return nil
}

// allModules on the kernel's command line ask for every module: devices will be
// plugged in later.
var allModules = []string{"dougong.template", "dougong.modules=all"}

func wantsAll(cmdline string) (bool, error) {
	line, err := os.ReadFile(cmdline)
	if err != nil {
		return false, fmt.Errorf("read the kernel's command line: %w", err)
	}
	return slices.ContainsFunc(strings.Fields(string(line)), func(word string) bool { return slices.Contains(allModules, word) }), nil
}

const demandPrefix = "demand:"

// Demand loads a module that is not loaded at boot, with what it needs. One that
// the kernel has built in is not in the list.
func Demand(name string) error {
	list, err := os.ReadFile(modulesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the list of modules: %w", err)
	}
	for _, path := range selectModules(onlyDemanded(string(list)), map[string]bool{demandPrefix + name: true}, false) {
		if err := loadModule(path); err != nil {
			return err
		}
	}
	return nil
}

// onlyDemanded leaves out what is loaded at boot.
func onlyDemanded(list string) string {
	var b strings.Builder
	for line := range strings.Lines(list) {
		if strings.Contains(line, " "+demandPrefix) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// selectModules picks the modules whose condition holds, or all.
func selectModules(list string, plugged map[string]bool, all bool) []string {
	var paths []string
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		wanted := len(fields) == 1
		for _, condition := range fields[1:] {
			wanted = wanted || plugged[condition] || all && !strings.HasPrefix(condition, demandPrefix)
		}
		if wanted {
			paths = append(paths, fields[0])
		}
	}
	return paths
}

// pluggedDevices returns the device ids of all PCI devices, four hexadecimal
// digits each.
func pluggedDevices(dir string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "device"))
	if err != nil {
		return nil, fmt.Errorf("list PCI devices: %w", err)
	}
	plugged := map[string]bool{}
	for _, file := range files {
		id, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read PCI device: %w", err)
		}
		plugged[strings.TrimPrefix(strings.TrimSpace(string(id)), "0x")] = true
	}
	return plugged, nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", path, err)
	}
	return nil
}
