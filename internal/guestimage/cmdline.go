package guestimage

import (
	"fmt"
	"slices"
	"strings"
)

// CmdlineOptions shape the kernel's command line.
type CmdlineOptions struct {
	// Emulated says that guest code is emulated. Mitigations against
	// speculation and address randomization then cost much and protect
	// nothing that an emulator has.
	Emulated bool
	// CPUs is how many of the machine's CPUs are used from the beginning; 0 is
	// all.
	CPUs int
	// Extra is added at the end.
	Extra string
}

// common parameters: quiet and fast to boot, and a panic ends the VM at once.
var common = []string{
	"console=ttyS0", "quiet", "loglevel=4",
	"panic=-1", "reboot=t",
	"8250.nr_uarts=1", "i8042.noaux", "i8042.nopnp", "i8042.nomux",
	"random.trust_cpu=on", "cryptomgr.notests", "rcupdate.rcu_expedited=1",
	"audit=0", "lsm=landlock,yama", "noautogroup",
	"cgroup_no_v1=all",
	// Memory that is plugged in is put to use at once, most of it so that it can
	// be taken out again. That there could be some above 4 GiB is no reason to
	// set 64 MiB aside for devices that reach no further: there are none.
	"memhp_default_state=online", "memory_hotplug.online_policy=auto-movable", "swiotlb=noforce",
	// On tmpfs, where files can be sealed, crun does not see that its own is
	// protected, and makes a copy of itself for each command.
	"rootfstype=ramfs",
}

// emulated parameters: no patching of the running kernel beside what has to be,
// since an emulator then translates anew. docs/design/guest-image.md has what
// was measured.
var emulated = []string{"noreplace-smp", "mitigations=off", "nokaslr", "no_timer_check", "tsc=reliable", "nowatchdog"}

// Cmdline returns the kernel's command line for a guest image.
func Cmdline(o CmdlineOptions) string {
	parameters := common
	if o.Emulated {
		parameters = append(slices.Clip(parameters), emulated...)
	}
	line := strings.Join(parameters, " ")
	if o.CPUs > 0 {
		line += fmt.Sprintf(" maxcpus=%d", o.CPUs)
	}
	if o.Extra != "" {
		line += " " + o.Extra
	}
	return line
}
