package oci

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// node identifies a device node by what it is, not only by what it is called.
type node struct {
	kind         string
	major, minor int64
}

// standardNodes exist in every guest kernel.
var standardNodes = map[string]node{
	"/dev/null":    {"c", 1, 3},
	"/dev/zero":    {"c", 1, 5},
	"/dev/full":    {"c", 1, 7},
	"/dev/random":  {"c", 1, 8},
	"/dev/urandom": {"c", 1, 9},
	"/dev/tty":     {"c", 5, 0},
	"/dev/console": {"c", 5, 1},
	"/dev/ptmx":    {"c", 5, 2},
}

// guestDevices lets standard nodes, block devices and FIFOs pass, of which the
// last are no devices of anybody. No rule may name a
// block device that is not the container's: its numbers may be those of a disk
// of the VM.
func guestDevices(plan *GuestPlan, _ GuestOptions) error {
	linux := plan.Spec.Linux
	for i, d := range linux.Devices {
		if d.Type == "b" {
			plan.addDevice(BlockDevice{Major: d.Major, Minor: d.Minor, ReadOnly: !writable(linux.Resources, d)})
			continue
		}
		if d.Type == "p" {
			continue
		}
		kind := d.Type
		if kind == "u" {
			kind = "c"
		}
		if want, ok := standardNodes[d.Path]; ok && want == (node{kind, d.Major, d.Minor}) {
			continue
		}
		what := fmt.Sprintf("linux.devices[%d] %q (%s %d:%d)", i, d.Path, d.Type, d.Major, d.Minor)
		return unsupported(what, "this device of the host is not attached to the VM")
	}
	return checkRules(plan)
}

func (p *GuestPlan) addDevice(d BlockDevice) {
	if !slices.ContainsFunc(p.Devices, func(o BlockDevice) bool { return o.Major == d.Major && o.Minor == d.Minor }) {
		p.Devices = append(p.Devices, d)
	}
}

// writable reports whether rules allow writing to a device. The last rule that
// is about it counts.
func writable(r *specs.LinuxResources, d specs.LinuxDevice) bool {
	yes := false
	if r == nil {
		return yes
	}
	for _, rule := range r.Devices {
		if about(rule, d.Major, d.Minor) && strings.Contains(rule.Access+allAccess(rule), "w") {
			yes = rule.Allow
		}
	}
	return yes
}

// allAccess is what a rule without access means.
func allAccess(rule specs.LinuxDeviceCgroup) string {
	if rule.Access == "" {
		return "rwm"
	}
	return ""
}

// about reports whether a rule concerns a block device.
func about(rule specs.LinuxDeviceCgroup, major, minor int64) bool {
	kind := rule.Type == "" || rule.Type == "a" || rule.Type == "b"
	return kind && matches(rule.Major, major) && matches(rule.Minor, minor)
}

func matches(want *int64, is int64) bool { return want == nil || *want < 0 || *want == is }

func checkRules(plan *GuestPlan) error {
	r := plan.Spec.Linux.Resources
	if r == nil {
		return nil
	}
	for i, rule := range r.Devices {
		if !rule.Allow || rule.Type != "b" || !strings.ContainsAny(rule.Access+allAccess(rule), "rw") {
			continue
		}
		if rule.Major == nil || rule.Minor == nil || *rule.Major < 0 || *rule.Minor < 0 {
			what := fmt.Sprintf("linux.resources.devices[%d] (all block devices of a kind)", i)
			return unsupported(what, "numbers of the host's devices mean others in the VM; name each device in linux.devices")
		}
		known := slices.ContainsFunc(plan.Devices, func(d BlockDevice) bool { return d.Major == *rule.Major && d.Minor == *rule.Minor })
		if !known {
			what := fmt.Sprintf("linux.resources.devices[%d] (b %d:%d)", i, *rule.Major, *rule.Minor)
			return unsupported(what, "this device of the host is not attached to the VM; name it in linux.devices")
		}
	}
	return nil
}
