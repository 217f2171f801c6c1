package oci

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	// eperm and enosys as seen by a container: EPERM says no, ENOSYS makes
	// libc fall back to the older call.
	eperm  = 1
	enosys = 38
	// namespaceFlags are the clone(2) flags that make namespaces (CLONE_NEW*).
	namespaceFlags = 0x7E020000
)

// DefaultSeccomp is the seccomp profile of containers without privileges: an
// allow-list equal in effect to Docker's. What is left out changes the machine
// (reboot, kexec, modules, clocks, mounts), reaches past namespaces, or is
// kernel surface that ordinary programs do without (bpf, perf, userfaultfd,
// keyrings). Capabilities given to a container open the calls they are for.
// arch is a GOARCH.
func DefaultSeccomp(arch string, capabilities []string) *specs.LinuxSeccomp {
	names := strings.Fields(seccompCommon)
	for _, group := range seccompByCapability {
		if slices.ContainsFunc(group.caps, func(c string) bool { return slices.Contains(capabilities, c) }) {
			names = append(names, strings.Fields(group.calls)...)
		}
	}
	names = append(names, strings.Fields(seccompByArch[arch])...)
	slices.Sort(names)
	calls := []specs.LinuxSyscall{{Names: slices.Compact(names), Action: specs.ActAllow}}
	calls = append(calls, personalityRules()...)
	calls = append(calls, socketRules()...)
	if !slices.Contains(capabilities, "CAP_SYS_ADMIN") {
		calls = append(calls, cloneRules()...)
	}
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(eperm)),
		Architectures: seccompArchitectures(arch), Syscalls: calls,
	}
}

func seccompArchitectures(arch string) []specs.Arch {
	switch arch {
	case "amd64":
		// Not x32: the guest's kernel does not have it, and each architecture
		// makes the filter, which every start compiles, half as long again.
		return []specs.Arch{specs.ArchX86_64, specs.ArchX86}
	case "arm64":
		return []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	default:
		return nil // libseccomp takes the native one.
	}
}

// personalityRules allow the personalities that only change how uname and the
// address space look: Linux, Linux32, with UNAME26, and asking for the present one.
func personalityRules() []specs.LinuxSyscall {
	var out []specs.LinuxSyscall
	for _, p := range []uint64{0x0, 0x8, 0x20000, 0x20008, 0xffffffff} {
		out = append(out, allowWhen("personality", specs.LinuxSeccompArg{Index: 0, Value: p, Op: specs.OpEqualTo}))
	}
	return out
}

// socketRules allow every family but AF_ALG (38), kernel surface few need, and
// AF_VSOCK (40), which would reach the host and the agent.
func socketRules() []specs.LinuxSyscall {
	return []specs.LinuxSyscall{
		allowWhen("socket", specs.LinuxSeccompArg{Index: 0, Value: 38, Op: specs.OpLessThan}),
		allowWhen("socket", specs.LinuxSeccompArg{Index: 0, Value: 39, Op: specs.OpEqualTo}),
		allowWhen("socket", specs.LinuxSeccompArg{Index: 0, Value: 40, Op: specs.OpGreaterThan}),
	}
}

// cloneRules allow new threads and processes, not new namespaces. The flags of
// clone3 are in memory, where seccomp cannot see them: libc falls back to clone.
func cloneRules() []specs.LinuxSyscall {
	return []specs.LinuxSyscall{
		allowWhen("clone", specs.LinuxSeccompArg{Index: 0, Value: namespaceFlags, ValueTwo: 0, Op: specs.OpMaskedEqual}),
		{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: new(uint(enosys))},
	}
}

func allowWhen(name string, arg specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg}}
}
