package seccomp

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// fromCrun has crun compile a profile, by libseccomp, and returns the program.
func fromCrun(t *testing.T, profile *specs.LinuxSeccomp) []byte {
	t.Helper()
	for _, tool := range []string{"crun", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil || os.Geteuid() != 0 {
			t.Skipf("needs root and %s", tool)
		}
	}
	bundle, root := t.TempDir(), t.TempDir()
	for _, dir := range []string{"dev", "proc"} {
		if err := os.MkdirAll(filepath.Join(bundle, "rootfs", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config, err := json.Marshal(specs.Spec{
		Version: "1.0.2", Root: &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: []string{"/crun"}, Cwd: "/", NoNewPrivileges: true},
		Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Linux:   &specs.Linux{Seccomp: profile, Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("unshare", "-m", "sh", "-c", `
		umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup
		cp "$(command -v crun)" "$2/rootfs/crun" && chmod 755 "$2/rootfs/crun"
		crun --root "$1" --cgroup-manager=disabled create -b "$2" one </dev/null >/dev/null && cp "$1/one/seccomp.bpf" "$2/program"
		crun --root "$1" --cgroup-manager=disabled delete -f one`, "sh", root, bundle).CombinedOutput()
	if err != nil {
		t.Fatalf("crun: %v\n%s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(bundle, "program"))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// TestLikeLibseccomp compares what becomes of every call with what libseccomp
// makes of the same profile. Calls that are younger than the libseccomp here
// have no rule with it.
func TestLikeLibseccomp(t *testing.T) {
	profile := dockerLike()
	theirs, ours := fromCrun(t, profile), compiled(t, profile)
	t.Logf("%d instructions, libseccomp has %d", len(ours)/instructionSize, len(theirs)/instructionSize)
	values := []uint64{0, 1, 8, 38, 39, 40, 41, 0x20000, 0x20008, 0x7E020000, 0x10000000, 0xffffffff, 1 << 32, 1<<64 - 1}
	for _, a := range []*arch.Info{arch.X86_64, arch.I386, arch.AARCH64} {
		for number := range uint32(youngest) {
			for _, v := range values {
				d := data{number: number, arch: uint32(a.ID), args: [maxArguments]uint64{v, 7}}
				if got, want := run(t, ours, d), run(t, theirs, d); got != want {
					t.Errorf("%s %d (%s), first argument %#x: got %#x, want %#x", a.Name, number, a.SyscallNumbers[int(number)], v, got, want)
				}
			}
		}
	}
}

// youngest is a call that came after the libseccomp of Debian 12.
const youngest = 450

func dockerLike() *specs.LinuxSeccomp {
	when := func(name string, op specs.LinuxSeccompOperator, value, two uint64) specs.LinuxSyscall {
		return allow(name, specs.LinuxSeccompArg{Value: value, ValueTwo: two, Op: op})
	}
	return denying(
		specs.LinuxSyscall{Names: []string{
			"read", "write", "open", "openat", "execve", "exit_group", "brk", "mmap", "mmap2", "close", "fstat", "futex", "futex_time64",
			"socketcall", "ipc", "semop", "bind", "connect", "accept4", "time", "stat64", "rseq", "clone3x", "prctl", "seccomp", "capget",
			"capset", "setgroups", "setgroups32", "setuid", "setuid32", "setgid", "chdir", "fchdir", "wait4", "arch_prctl", "rt_sigaction",
		}, Action: specs.ActAllow},
		when("personality", specs.OpEqualTo, 0, 0), when("personality", specs.OpEqualTo, 8, 0),
		when("personality", specs.OpEqualTo, 0x20008, 0), when("personality", specs.OpEqualTo, 0xffffffff, 0),
		when("socket", specs.OpLessThan, 38, 0), when("socket", specs.OpEqualTo, 39, 0), when("socket", specs.OpGreaterThan, 40, 0),
		when("clone", specs.OpMaskedEqual, 0x7E020000, 0), when("ioctl", specs.OpNotEqual, 0x10000000, 0),
		when("fcntl", specs.OpLessEqual, 40, 0), when("lseek", specs.OpGreaterEqual, 1<<32, 0),
		specs.LinuxSyscall{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: new(uint(38))},
	)
}
