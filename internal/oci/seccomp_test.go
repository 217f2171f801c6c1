package oci

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// allowed lists the calls a profile allows whatever their arguments.
func allowed(s *specs.LinuxSeccomp) []string {
	var out []string
	for _, c := range s.Syscalls {
		if c.Action == specs.ActAllow && len(c.Args) == 0 {
			out = append(out, c.Names...)
		}
	}
	return out
}

// What the profile is there to stop.
func TestSeccompDenies(t *testing.T) {
	calls := allowed(DefaultSeccomp("amd64", defaultCapabilities))
	for name := range strings.FieldsSeq(`mount umount2 pivot_root move_mount open_tree fsopen mount_setattr reboot kexec_load kexec_file_load
		init_module finit_module delete_module bpf perf_event_open userfaultfd keyctl add_key request_key clone clone3 unshare setns
		settimeofday clock_settime swapon swapoff acct iopl ioperm open_by_handle_at io_uring_setup io_uring_enter nfsservctl quotactl
		socket personality syslog vhangup kcmp sethostname lookup_dcookie uselib ustat sysfs _sysctl vm86 mbind move_pages`) {
		if slices.Contains(calls, name) {
			t.Errorf("%s is allowed", name)
		}
	}
	for name := range strings.FieldsSeq("read write execve chroot ptrace futex openat2 statx rseq close_range faccessat2 arch_prctl") {
		if !slices.Contains(calls, name) {
			t.Errorf("%s is not allowed", name)
		}
	}
}

func TestSeccompFollowsCapabilities(t *testing.T) {
	for capability, name := range map[string]string{
		"CAP_SYS_ADMIN": "mount", "CAP_SYS_BOOT": "reboot", "CAP_SYS_MODULE": "init_module", "CAP_BPF": "bpf", "CAP_PERFMON": "perf_event_open",
		"CAP_SYS_TIME": "clock_settime", "CAP_SYSLOG": "syslog", "CAP_SYS_NICE": "mbind", "CAP_SYS_CHROOT": "chroot",
	} {
		if slices.Contains(allowed(DefaultSeccomp("amd64", nil)), name) {
			t.Errorf("%s is allowed without %s", name, capability)
		}
		if !slices.Contains(allowed(DefaultSeccomp("amd64", []string{capability})), name) {
			t.Errorf("%s is not allowed with %s", name, capability)
		}
	}
	for _, c := range DefaultSeccomp("amd64", []string{"CAP_SYS_ADMIN"}).Syscalls[1:] {
		if slices.Contains(c.Names, "clone") || slices.Contains(c.Names, "clone3") {
			t.Errorf("a rule still bounds %v", c.Names)
		}
	}
	for _, g := range seccompByCapability {
		for _, c := range g.caps {
			if !slices.Contains(allCapabilities, c) {
				t.Errorf("%s is no capability", c)
			}
		}
	}
}

func TestSeccompArchitectures(t *testing.T) {
	for arch, want := range map[string]int{"amd64": 2, "arm64": 2, "riscv64": 0} {
		s := DefaultSeccomp(arch, nil)
		if len(s.Architectures) != want {
			t.Errorf("%s: %v", arch, s.Architectures)
		}
		if names := allowed(s); len(names) != len(slices.Compact(names)) || slices.Contains(names, "modify_ldt") != (arch == "amd64") {
			t.Errorf("%s: calls stand twice or are of another architecture", arch)
		}
	}
}
