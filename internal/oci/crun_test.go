package oci

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// inCrun runs a shell script in a container that crun makes from a generated
// and translated spec, as the guest would, and returns its output. cgroups are
// left out: the host's may be v1.
func inCrun(t *testing.T, image imagespec.ImageConfig, run RunOptions, change func(*specs.Spec), script string) string {
	t.Helper()
	for _, tool := range []string{"crun", "unshare", "/bin/busybox"} {
		if _, err := exec.LookPath(tool); err != nil || os.Geteuid() != 0 {
			t.Skipf("needs root and %s", tool)
		}
	}
	bundle := t.TempDir()
	makeRootfs(t, filepath.Join(bundle, "rootfs"))
	run.ID, run.Args = "t"+filepath.Base(bundle)+strings.ToLower(filepath.Base(filepath.Dir(bundle))), []string{"/bin/busybox", "sh", "-c", script}
	host, err := Generate(image, run)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Guest(host, GuestOptions{ID: "crun"})
	if err != nil {
		t.Fatal(err)
	}
	spec := plan.Spec
	spec.Linux.Resources, spec.Linux.CgroupsPath = nil, ""
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	// Without CAP_SYS_RESOURCE crun cannot raise the limit on this host.
	spec.Process.Rlimits[0].Hard = min(spec.Process.Rlimits[0].Hard, limit.Max)
	files, err := Files(run, []string{"10.0.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		writeFile(t, filepath.Join(bundle, f.Name), f.Content)
	}
	for i := range spec.Mounts {
		if dir, name := filepath.Split(spec.Mounts[i].Source); dir+name == GuestFile("crun", name) {
			spec.Mounts[i].Source = filepath.Join(bundle, name)
		}
	}
	if change != nil {
		change(spec)
	}
	return runCrun(t, bundle, run.ID, spec)
}

func runCrun(t *testing.T, bundle, id string, spec *specs.Spec) string {
	t.Helper()
	config, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(bundle, "config.json"), config)
	cmd := exec.Command("unshare", "-m", "sh", "-c",
		`umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec crun --root "$1" --cgroup-manager=disabled run -b "$2" "$3"`,
		"sh", t.TempDir(), bundle, id)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("crun: %v\n%s\n%s", err, out, stderr.String())
	}
	return string(out)
}

func makeRootfs(t *testing.T, root string) {
	t.Helper()
	for _, dir := range []string{"bin", "etc", "tmp", "data"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(root, "bin", "busybox"), busybox)
	writeFile(t, filepath.Join(root, "data", "seed"), []byte("from the image"))
	if err := os.Chown(filepath.Join(root, "data"), 999, 998); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, got string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("output has no %q:\n%s", p, got)
		}
	}
}

func TestCrunTakesDefaults(t *testing.T) {
	out := inCrun(t, imagespec.ImageConfig{Env: []string{"A=b"}}, RunOptions{Hostname: "web.example.org"}, nil,
		`busybox=/bin/busybox; for i in hostname env "grep Seccomp: /proc/self/status" "grep CapBnd /proc/self/status" "cat /etc/hosts /etc/resolv.conf"; do $busybox $i; done
		/bin/busybox mount -t tmpfs x /tmp 2>&1; /bin/busybox unshare -m true 2>&1; (echo 1 >/proc/sys/kernel/domainname) 2>&1; ulimit -n`)
	holds(t, out, "web.example.org\n", "A=b\n", "PATH="+DefaultPath, "Seccomp:\t2", "CapBnd:\t00000000a80425fb", "nameserver 10.0.2.3",
		"mount: permission denied", "unshare(0x20000): Operation not permitted", "/proc/sys/kernel/domainname: Read-only", "\n1024\n")
}

func TestCrunTakesAddedAdmin(t *testing.T) {
	out := inCrun(t, imagespec.ImageConfig{}, RunOptions{CapAdd: []string{"SYS_ADMIN"}}, nil,
		`/bin/busybox mount -t tmpfs x /tmp && /bin/busybox unshare -m /bin/busybox echo new`)
	holds(t, out, "new\n")
}

// dropUnavailable leaves out what this host itself may not hold.
func dropUnavailable(s *specs.Spec) {
	missing := func(c string) bool {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(slices.Index(allCapabilities, c)), 0, 0, 0)
		return err != nil || has == 0
	}
	caps := s.Process.Capabilities
	caps.Bounding = slices.DeleteFunc(caps.Bounding, missing)
	caps.Effective = slices.DeleteFunc(caps.Effective, missing)
	caps.Permitted = slices.DeleteFunc(caps.Permitted, missing)
}

func TestCrunTakesPrivileged(t *testing.T) {
	out := inCrun(t, imagespec.ImageConfig{}, RunOptions{Privileged: true}, dropUnavailable,
		`/bin/busybox grep -E "Seccomp:|CapEff" /proc/self/status; /bin/busybox mount -t tmpfs x /tmp && echo mounted`)
	holds(t, out, "Seccomp:\t0", "mounted\n")
}

// An image's volume keeps its content and is writable, for any user, under
// --read-only. The owner of its top directory is not kept by crun's tmpcopyup.
func TestCrunTakesReadOnlyWithVolumes(t *testing.T) {
	out := inCrun(t, imagespec.ImageConfig{Volumes: map[string]struct{}{"/data": {}, "/new": {}}},
		RunOptions{ReadOnly: true, Mounts: []Mount{{Type: MountTmpfs, Target: "/scratch"}, {Type: MountVolume, Target: "/ro", ReadOnly: true}}}, nil,
		`b=/bin/busybox; $b cat /data/seed; $b stat -c "%n %a %u:%g" /data /new /scratch /ro; echo x >/data/x && echo y >/new/y && echo z >/scratch/z && echo written
		(echo x >/x) 2>&1; (echo x >/ro/x) 2>&1; true`)
	holds(t, out, "from the image", "/data 1777 0:0\n", "/new 1777 0:0\n", "/scratch 1777 0:0\n", "written\n", "can't create /x: Read-only", "can't create /ro/x: Read-only")
}

func TestCrunTakesInit(t *testing.T) {
	init := filepath.Join(t.TempDir(), "init")
	writeFile(t, init, []byte("#!/bin/busybox sh\nshift 2\nexec \"$@\"\n"))
	out := inCrun(t, imagespec.ImageConfig{}, RunOptions{Init: true, ReadOnly: true}, func(s *specs.Spec) {
		i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Source == InitSource })
		s.Mounts[i].Source = init
	}, `echo below init`)
	holds(t, out, "below init\n")
}
