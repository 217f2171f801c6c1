package guestimage

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// Places in the guest that the initramfs's content depends on.
const (
	guestInit = "init"
	guestCrun = "usr/bin/crun"
	// guestModules lists the modules in the order of loading: a path, and
	// after it the PCI device ids that call for the module, if only some do, or
	// the name by which it is demanded.
	guestModules = "etc/dougong/modules"
)

// directories are made even where nothing is in them: they are mount points,
// or programs expect them.
var directories = []string{"dev", "proc", "sys", "run", "tmp", "root", "etc", "var", "usr/bin", "usr/lib", "lib64", "mnt"}

// accounts are what crun and libraries look up about the guest's own root.
var accounts = map[string]string{
	"etc/passwd":        "root:x:0:0:root:/root:/sbin/nologin\n",
	"etc/group":         "root:x:0:\n",
	"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	"etc/hosts":         "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
}

// tree is the content of an initramfs by path, without leading slash.
type tree map[string]cpio.Record

func (t tree) file(name string, mode uint64, content []byte) {
	t.parents(name)
	t[name] = cpio.StaticFile(name, string(content), mode)
}

func (t tree) directory(name string) {
	t.parents(name)
	if _, ok := t[name]; !ok {
		t[name] = cpio.Directory(name, 0o755)
	}
}

func (t tree) parents(name string) {
	if dir := path.Dir(name); dir != "." {
		t.directory(dir)
	}
}

// hostFile puts a file of the host, following links.
func (t tree) hostFile(name, host string) error {
	content, err := os.ReadFile(host)
	if err != nil {
		return fmt.Errorf("read %s for the initramfs: %w", host, err)
	}
	t.file(strings.TrimPrefix(name, "/"), 0o755, content)
	return nil
}

// initramfs writes the archive. The same input gives the same bytes.
func initramfs(agent, crun string, modules []module) ([]byte, error) {
	t := tree{}
	for _, dir := range directories {
		t.directory(dir)
	}
	t["dev/console"] = cpio.CharDev("dev/console", 0o600, 5, 1)
	t["dev/null"] = cpio.CharDev("dev/null", 0o666, 1, 3)
	for name, content := range accounts {
		t.file(name, 0o644, []byte(content))
	}
	if err := t.programs(agent, crun); err != nil {
		return nil, err
	}
	t.modules(modules)
	return t.encode()
}

func (t tree) programs(agent, crun string) error {
	if err := t.hostFile(guestInit, agent); err != nil {
		return err
	}
	if err := t.hostFile(guestCrun, crun); err != nil {
		return err
	}
	libs, err := libraries(crun)
	if err != nil {
		return err
	}
	for name, host := range libs {
		if err := t.hostFile(name, host); err != nil {
			return err
		}
	}
	return nil
}

func (t tree) modules(modules []module) {
	var list strings.Builder
	for _, m := range modules {
		name := path.Join("usr/lib/modules", m.name+".ko")
		t.file(name, 0o644, m.content)
		fmt.Fprintln(&list, strings.TrimSpace("/"+name+" "+strings.Join(m.devices, " ")))
	}
	t.file(guestModules, 0o644, []byte(list.String()))
}

// encode writes the records sorted by name, so that parents come first, with
// neither times nor inode numbers of this machine.
func (t tree) encode() ([]byte, error) {
	var names []string
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for i, name := range names {
		record := cpio.MakeReproducible(t[name])
		record.Ino = uint64(i + 1)
		if err := w.WriteRecord(record); err != nil {
			return nil, fmt.Errorf("write %s to the initramfs: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("end the initramfs: %w", err)
	}
	return out.Bytes(), nil
}
