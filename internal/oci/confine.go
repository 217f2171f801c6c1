package oci

import specs "github.com/opencontainers/runtime-spec/specs-go"

// maskedPaths are hidden from containers: they tell of, or steer, the machine.
var maskedPaths = []string{
	"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
	"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
}

var readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}

// allowedNodes are the character devices a container may open, as major, minor.
var allowedNodes = [][2]int64{
	{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, // null zero full random urandom
	{5, 0}, {5, 1}, {5, 2}, // tty console ptmx
}

const ptsMajor = 136

// deviceRules deny everything but the standard nodes. Making other nodes is
// allowed, opening them is not: so a container never reaches the VM's disks.
func deviceRules(privileged bool) []specs.LinuxDeviceCgroup {
	if privileged {
		return []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "b", Access: "m"},
		{Allow: true, Type: "c", Major: new(int64(ptsMajor)), Access: "rwm"},
	}
	for _, n := range allowedNodes {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: new(n[0]), Minor: new(n[1]), Access: "rwm"})
	}
	return rules
}
