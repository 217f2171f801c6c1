package check

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/guestimage"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/vmm"
)

var update = flag.Bool("update", false, "write golden files")

// goodHost is a host on which everything is right.
func goodHost(t *testing.T) *Host {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"dev/vhost-vsock":                  "",
		"dev/vhost-net":                    "",
		"dev/net/tun":                      "",
		"sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
		"proc/meminfo":                     "MemTotal: 9000000 kB\nMemAvailable:    8388608 kB\n",
		"boot/vmlinux":                     "",
		"boot/initrd":                      "",
	} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	found := func(path string) func() (string, error) {
		return func() (string, error) { return path, nil }
	}
	return &Host{
		Config:      config.Default(),
		Root:        root,
		Accelerator: func() (vmm.Accelerator, string, error) { return vmm.KVM, "/dev/kvm works", nil },
		QEMU: func(context.Context) (string, qemu.Version, error) {
			return "/usr/bin/qemu-system-x86_64", qemu.Version{Major: 7, Minor: 2, Micro: 22}, nil
		},
		GuestImage: func() (*guestimage.Image, error) {
			return &guestimage.Image{
				ID: "0123456789abcdef", Release: "6.1.0-1-cloud-amd64", InitrdSize: 18 << 20,
				Kernel: filepath.Join(root, "boot/vmlinux"), Initrd: filepath.Join(root, "boot/initrd"),
			}, nil
		},
		Kernel:    func() (guestimage.Kernel, error) { return guestimage.Kernel{Release: "6.1.0-2-cloud-amd64"}, nil },
		Virtiofsd: found("/usr/lib/qemu/virtiofsd"),
		Shim:      found("/usr/bin/containerd-shim-dougong-v2"),
		Crun:      found("/usr/bin/crun"),
		Writable:  func(string) error { return nil },
		Space:     func(string) (uint64, error) { return 40 << 30, nil },
	}
}

// badHost is one on which everything is wrong.
func badHost(t *testing.T) *Host {
	t.Helper()
	h := goodHost(t)
	h.Root = t.TempDir()
	missing := func() (string, error) { return "", errors.New("it is not there") }
	h.UID = 1000
	h.Accelerator = func() (vmm.Accelerator, string, error) { return "", "", errors.New("accelerator kvm: no /dev/kvm") }
	h.QEMU = func(context.Context) (string, qemu.Version, error) {
		return "", qemu.Version{}, fmt.Errorf("find QEMU: %w", errdefs.ErrNotFound)
	}
	h.GuestImage = func() (*guestimage.Image, error) { return nil, errors.New("there is no guest image") }
	h.Kernel = func() (guestimage.Kernel, error) { return guestimage.Kernel{}, errors.New("no kernel") }
	h.Virtiofsd, h.Shim, h.Crun = missing, missing, missing
	h.Writable = func(path string) error { return &os.PathError{Op: "access", Path: path, Err: os.ErrPermission} }
	h.Space = func(string) (uint64, error) { return 1 << 20, nil }
	return h
}

func TestGolden(t *testing.T) {
	for name, host := range map[string]*Host{"good": goodHost(t), "bad": badHost(t)} {
		results := Run(t.Context(), host)
		for i := range results {
			results[i].Detail = strings.ReplaceAll(results[i].Detail, host.Root, "")
		}
		var table, coloured, js bytes.Buffer
		if err := errors.Join(WriteTable(&table, results, false), WriteTable(&coloured, results, true), WriteJSON(&js, results)); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", table.Bytes())
		golden(t, name+".colour.txt", coloured.Bytes())
		golden(t, name+".json", js.Bytes())
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestEveryProblemHasAFix(t *testing.T) {
	for _, r := range Run(t.Context(), badHost(t)) {
		if r.Status != OK && r.Fix == "" {
			t.Errorf("%s is %s and nobody says how to mend it", r.Name, r.Status)
		}
	}
}

func TestProbes(t *testing.T) {
	tests := []struct {
		name, probe string
		change      func(*Host)
		want        Result
	}{
		{"emulation by itself", "accelerator", func(h *Host) {
			h.Accelerator = func() (vmm.Accelerator, string, error) { return vmm.TCG, "no KVM", nil }
		}, Result{"accelerator", Warn, "tcg: no KVM", "nothing needs mending; for more speed use a host with VT-x or AMD-V"}},
		{"emulation by wish", "accelerator", func(h *Host) {
			h.Config.VM.Accelerator = "tcg"
			h.Accelerator = func() (vmm.Accelerator, string, error) { return vmm.TCG, "it was asked for", nil }
		}, Result{"accelerator", OK, "tcg: it was asked for", ""}},
		{"old QEMU", "qemu", func(h *Host) {
			h.QEMU = func(context.Context) (string, qemu.Version, error) {
				return "/q", qemu.Version{Major: 5}, fmt.Errorf("/q is QEMU 5.0.0: %w", errdefs.ErrFailedPrecondition)
			}
		}, Result{"qemu", Fail, "/q is QEMU 5.0.0: failed precondition", "install QEMU 7.2 or newer"}},
		{"broken QEMU", "qemu", func(h *Host) {
			h.QEMU = func(context.Context) (string, qemu.Version, error) {
				return "/q", qemu.Version{}, errors.New("ask /q for its version: exit status 127")
			}
		}, Result{"qemu", Fail, "ask /q for its version: exit status 127", "reinstall the package qemu-system-x86"}},
		{"own kernel and initramfs", "guest image", func(h *Host) {
			h.Config.VM.Kernel, h.Config.VM.Initrd = "/boot/vmlinux", "/boot/initrd"
		}, Result{"guest image", OK, "not needed: vm.kernel and vm.initrd are configured", ""}},
		{"own kernel", "guest kernel", func(h *Host) { h.Config.VM.Kernel = "/boot/vmlinux" }, Result{"guest kernel", OK, "/boot/vmlinux", ""}},
		{
			"own kernel is missing", "guest kernel", func(h *Host) { h.Config.VM.Kernel = "/none" },
			Result{"guest kernel", Fail, "vm.kernel is /none, which is not there", "set vm.kernel to a kernel, or take it out to use that of the guest image"},
		},
		{"kernel to build from", "guest kernel", noImage, Result{"guest kernel", OK, "6.1.0-2-cloud-amd64, for the next guest image", ""}},
		{"crun to build from", "crun", noImage, Result{"crun", OK, "/usr/bin/crun, for the next guest image", ""}},
		{"hybrid cgroup", "cgroup", cgroup("unified/cgroup.controllers"), Result{"cgroup", OK, "v1 with v2 beside it; guests have v2 in any case", ""}},
		{"old cgroup", "cgroup", cgroup("memory/tasks"), Result{"cgroup", OK, "v1; guests have v2 in any case", ""}},
		{
			"little space", "storage", func(h *Host) { h.Space = func(string) (uint64, error) { return 1 << 30, nil } },
			Result{"storage", Warn, "1024 MiB free in /var/lib/dougong", "remove images with 'dougong rmi', or move storage.root"},
		},
		{
			"big machine", "memory", func(h *Host) { h.Config.VM.MemoryMiB = 8192 },
			Result{"memory", Fail, "8192 MiB available, a sandbox of 8192 MiB may take up to 8320 MiB", "free memory, or lower vm.memory_mib"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := goodHost(t)
			tt.change(h)
			if diff := cmp.Diff(tt.want, result(t, h, tt.probe)); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func noImage(h *Host) {
	h.GuestImage = func() (*guestimage.Image, error) { return nil, errors.New("none") }
}

// cgroup replaces what is below /sys/fs/cgroup by one file.
func cgroup(file string) func(*Host) {
	return func(h *Host) {
		dir := h.path("/sys/fs/cgroup")
		_ = os.RemoveAll(dir)
		path := filepath.Join(dir, file)
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		_ = os.WriteFile(path, nil, 0o644)
	}
}

func result(t *testing.T, h *Host, name string) Result {
	t.Helper()
	for _, r := range Run(t.Context(), h) {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("there is no probe %q", name)
	return Result{}
}

func TestIncompleteGuestImage(t *testing.T) {
	h := goodHost(t)
	if err := os.Remove(h.path("/boot/initrd")); err != nil {
		t.Fatal(err)
	}
	r := result(t, h, "guest image")
	if r.Status != Fail || r.Fix != buildFix || !strings.Contains(r.Detail, "is not whole") {
		t.Errorf("a guest image without its initramfs gives %+v", r)
	}
}

func TestWorst(t *testing.T) {
	for want, list := range map[Status][]Status{OK: {OK, OK}, Warn: {OK, Warn, OK}, Fail: {Fail, Warn, OK}} {
		var results []Result
		for _, s := range list {
			results = append(results, Result{Status: s})
		}
		if got := Worst(results); got != want {
			t.Errorf("Worst(%v) = %s, want %s", list, got, want)
		}
	}
}

func TestAvailable(t *testing.T) {
	for text, want := range map[string]uint64{
		"MemAvailable: 4 kB\n":                    4096,
		"MemTotal: 9 kB\nMemAvailable:      1 kB": 1024,
		"MemTotal: 9 kB\n":                        0,
		"MemAvailable: 4 MB\n":                    0,
		"MemAvailable: -4 kB\n":                   0,
		"MemAvailable: 99999999999999999999 kB\n": 0,
	} {
		got, err := available(strings.NewReader(text))
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("available(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestFreeSpaceOfAMissingDirectory(t *testing.T) {
	dir := t.TempDir()
	want, err := freeSpace(dir)
	if err != nil || want == 0 {
		t.Fatalf("free space of %s is %d, %v", dir, want, err)
	}
	if _, err := freeSpace(filepath.Join(dir, "not", "made", "yet")); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := freeSpace(filepath.Join(file, "below")); err == nil {
		t.Error("free space below a file is no error")
	}
}

func TestWritable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		dir:                                      nil,
		filepath.Join(dir, "not", "made", "yet"): nil,
		file:                                     unix.ENOTDIR,
		filepath.Join(file, "below"):             unix.ENOTDIR,
	} {
		if err := writable(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func TestColours(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if Colours(w, func(string) string { return "" }) {
		t.Error("a pipe gets colours")
	}
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer tty.Close()
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	if !Colours(tty, getenv) {
		t.Error("a terminal gets no colours")
	}
	env["NO_COLOR"] = "1"
	if Colours(tty, getenv) {
		t.Error("NO_COLOR is not heeded")
	}
}

func TestNewHostAnswers(t *testing.T) {
	cfg := config.Default()
	cfg.Storage.Root = t.TempDir()
	found := func() (string, error) { return "/x", nil }
	results := Run(t.Context(), NewHost(cfg, found, found))
	if len(results) != len(probes) {
		t.Fatalf("%d results of %d probes", len(results), len(probes))
	}
	for _, r := range results {
		if r.Detail == "" {
			t.Errorf("%s found nothing to say", r.Name)
		}
	}
}
