package oci

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// allCapabilities are those of Linux 5.9 and later, in the kernel's order.
var allCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// defaultCapabilities are the fourteen that Docker gives.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
}

const everyCapability = "ALL"

// capabilities are those of a container, in the kernel's order. Like Docker:
// ALL added is all but those dropped; ALL dropped is only those added; what is
// added and dropped is there.
func capabilities(run RunOptions) ([]string, error) {
	add, err := capabilityNames("--cap-add", run.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, err := capabilityNames("--cap-drop", run.CapDrop)
	if err != nil {
		return nil, err
	}
	has := func(list []string) func(string) bool {
		return func(c string) bool { return slices.Contains(list, c) }
	}
	keep := slices.Clone(allCapabilities)
	switch {
	case run.Privileged:
		return keep, nil
	case has(add)(everyCapability):
		return slices.DeleteFunc(keep, has(drop)), nil
	case has(drop)(everyCapability):
		return slices.DeleteFunc(keep, func(c string) bool { return !has(add)(c) }), nil
	}
	return slices.DeleteFunc(keep, func(c string) bool {
		return !has(add)(c) && (!has(defaultCapabilities)(c) || has(drop)(c))
	}), nil
}

func capabilityNames(flag string, in []string) ([]string, error) {
	var out []string
	for _, given := range in {
		name := strings.ToUpper(given)
		if name == everyCapability {
			out = append(out, name)
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(allCapabilities, name) {
			return nil, invalid("%s: unknown capability %q%s", flag, given, hint("", nearest(name, allCapabilities)))
		}
		out = append(out, name)
	}
	return out, nil
}

// AllCapabilities are those of a privileged process.
func AllCapabilities() *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{
		Bounding: slices.Clone(allCapabilities), Effective: slices.Clone(allCapabilities), Permitted: slices.Clone(allCapabilities),
	}
}
