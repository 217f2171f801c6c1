package guestimage

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/u-root/u-root/pkg/cpio"
)

// maxInitramfs is what is promised.
const maxInitramfs = 20 << 20

// smallOptions are of an image that is quick to build: a kernel without
// modules, and any static programs.
func smallOptions(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	kernel := filepath.Join(dir, "vmlinuz")
	write(t, kernel, string(bzImage(packers["gzip"](t, tinyELF(note("Xen", notePVHEntry, make([]byte, 8)))))))
	return Options{Kernel: Kernel{Release: "1.2.3-test", Image: kernel}, Agent: "/bin/busybox", Crun: "/bin/busybox"}
}

func TestBuildIsReproducible(t *testing.T) {
	o := Options{Kernel: testKernel(t), Agent: "/bin/busybox", Crun: distributionCrun}
	first, err := Build(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	// Where, when, by whom and through which path must not matter.
	agent := filepath.Join(t.TempDir(), "agent")
	data, err := os.ReadFile(o.Agent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(agent, data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(agent, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	o.Agent = agent
	second, err := Build(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{{first.Kernel, second.Kernel}, {first.Initrd, second.Initrd}} {
		a, errA := os.ReadFile(pair[0])
		b, errB := os.ReadFile(pair[1])
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s and %s differ (%v, %v)", pair[0], pair[1], errA, errB)
		}
	}
	if first.ID != second.ID {
		t.Errorf("ids %s and %s differ", first.ID, second.ID)
	}
}

func TestBuildWithAgentIsSmall(t *testing.T) {
	agent := filepath.Join(t.TempDir(), "agent")
	write(t, agent, strings.Repeat("x", 8<<20))
	img, err := Build(t.TempDir(), Options{Kernel: testKernel(t), Agent: agent, Crun: distributionCrun})
	if err != nil {
		t.Fatal(err)
	}
	if img.InitrdSize > maxInitramfs {
		t.Errorf("the initramfs has %d bytes, promised are %d", img.InitrdSize, maxInitramfs)
	}
}

func TestInitramfsContent(t *testing.T) {
	data, err := initramfs("/bin/busybox", "/bin/busybox", []module{
		{name: "a", content: []byte("A")}, {name: "b", content: []byte("B"), devices: []string{"1041", "1000"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	modes, inodes := map[string]uint64{}, map[uint64]string{}
	for _, r := range records {
		modes[r.Name] = r.Mode
		if r.MTime != 0 || r.UID != 0 || r.GID != 0 {
			t.Errorf("%s carries mtime %d, owner %d:%d", r.Name, r.MTime, r.UID, r.GID)
		}
		if other, ok := inodes[r.Ino]; ok {
			t.Errorf("%s and %s share an inode number and would be one file", r.Name, other)
		}
		inodes[r.Ino] = r.Name
		if dir := filepath.Dir(r.Name); dir != "." && modes[dir]&syscall.S_IFMT != syscall.S_IFDIR {
			t.Errorf("%s comes before its directory", r.Name)
		}
		if r.Name == guestModules {
			content, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
			if want := "/usr/lib/modules/a.ko\n/usr/lib/modules/b.ko 1041 1000\n"; err != nil || string(content) != want {
				t.Errorf("list of modules: %q, %v, want %q", content, err, want)
			}
		}
	}
	for name, want := range map[string]uint64{
		"init": syscall.S_IFREG | 0o755, "usr/bin/crun": syscall.S_IFREG | 0o755, "dev/console": syscall.S_IFCHR | 0o600,
		"dev/null": syscall.S_IFCHR | 0o666, "etc/passwd": syscall.S_IFREG | 0o644, "proc": syscall.S_IFDIR | 0o755,
	} {
		if modes[name] != want {
			t.Errorf("%s: mode %o, want %o", name, modes[name], want)
		}
	}
}

func TestBuildAtOnce(t *testing.T) {
	dir, o := t.TempDir(), smallOptions(t)
	var builds sync.WaitGroup
	for i := range 16 {
		builds.Go(func() {
			mine := o
			if i%2 == 1 {
				mine.Crun = "/usr/bin/mkfs.erofs"
			}
			if _, err := Build(dir, mine); err != nil {
				t.Error(err)
			}
		})
	}
	builds.Wait()
	list, err := List(dir)
	if err != nil || len(list) != 2 {
		t.Errorf("%d images, %v, want 2", len(list), err)
	}
	if _, err := Current(dir); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("left behind beside two images and a link: %v, %v", entries, err)
	}
}

func TestBuildIsReadableWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	img, err := Build(t.TempDir(), smallOptions(t))
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{img.Kernel: 0o444, img.Initrd: 0o444, filepath.Dir(img.Kernel): 0o755} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s: mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
}

func TestManifestTellsWhatIsInTheImage(t *testing.T) {
	dir := t.TempDir()
	built, err := Build(dir, smallOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, built.ID, fileManifest))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	inputs, _ := m["inputs"].(map[string]any)
	if m["kernelRelease"] != "1.2.3-test" || len(inputs) != 3 || inputs["agent"] != inputs["crun"] {
		t.Errorf("manifest: %s", data)
	}
	info, err := os.Stat(built.Initrd)
	if err != nil || int(info.Size()) != built.InitrdSize {
		t.Errorf("size %d in the manifest, %v, %v", built.InitrdSize, info, err)
	}
}

func TestCurrentIsTheLastBuilt(t *testing.T) {
	dir, o := t.TempDir(), smallOptions(t)
	if _, err := Current(dir); !errdefs.IsNotFound(err) {
		t.Errorf("before any build: %v", err)
	}
	first, err := Build(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Crun = "/usr/bin/mkfs.erofs"
	second, err := Build(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	list, err := List(dir)
	if err != nil || len(list) != 2 || list[0].ID != second.ID {
		t.Errorf("list %v, %v, want %s first", list, err, second.ID)
	}
	expect := func(want *Image) {
		t.Helper()
		if got, err := Current(dir); err != nil || got.ID != want.ID {
			t.Errorf("current is %v, %v, want %s", got, err, want.ID)
		}
	}
	expect(second)
	o.Crun = "/bin/busybox"
	if _, err := Build(dir, o); err != nil {
		t.Fatal(err)
	}
	expect(first)
}

func TestBuildFailsWithoutATrace(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Options)
		want string
	}{
		"no kernel":  {func(o *Options) { o.Kernel.Image = "/none/vmlinuz" }, "/none/vmlinuz"},
		"bad kernel": {func(o *Options) { o.Kernel.Image = "/etc/passwd" }, "neither ELF nor a bzImage"},
		"no PVH":     {func(o *Options) { o.Kernel.Image = "/bin/busybox" }, "CONFIG_PVH"},
		"no agent":   {func(o *Options) { o.Agent = "/none/agent" }, "/none/agent"},
		"no crun":    {func(o *Options) { o.Crun = "/none/crun" }, "/none/crun"},
		"no modules": {func(o *Options) { o.Kernel.Modules = "/none/modules" }, "/none/modules"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, o := t.TempDir(), smallOptions(t)
			c.edit(&o)
			_, err := Build(dir, o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 0 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

func TestDamagedManifestIsNamed(t *testing.T) {
	dir := t.TempDir()
	img, err := Build(dir, smallOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(dir, img.ID, fileManifest)
	if err := os.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	write(t, manifest, "{")
	for name, call := range map[string]func() error{
		"Current": func() error { _, err := Current(dir); return err },
		"List":    func() error { _, err := List(dir); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), img.ID) || errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%s: got %v, want an error that names %s", name, err, img.ID)
		}
	}
}

func TestCmdline(t *testing.T) {
	plain := strings.Fields(Cmdline(CmdlineOptions{}))
	emulated := strings.Fields(Cmdline(CmdlineOptions{Emulated: true, Extra: "a b=c"}))
	for _, parameter := range []string{"mitigations=off", "nokaslr"} {
		if slices.Contains(plain, parameter) || !slices.Contains(emulated, parameter) {
			t.Errorf("%s belongs to emulated guests, and to no other", parameter)
		}
	}
	if !slices.Contains(plain, "panic=-1") || !slices.Equal(emulated[len(emulated)-2:], []string{"a", "b=c"}) {
		t.Errorf("command lines %q and %q", plain, emulated)
	}
}
