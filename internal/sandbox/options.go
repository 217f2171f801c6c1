package sandbox

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/pool"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/sizing"
	"dougong.dev/dougong/internal/template"
	"dougong.dev/dougong/internal/virtiofsd"
	"dougong.dev/dougong/internal/vmm"
	"dougong.dev/dougong/internal/volume"
)

// MinMemoryMiB is the least memory with which the guest's kernel and agent
// come up and leave a container something to run in.
const MinMemoryMiB = 128

// Options say what a sandbox is made of. They are complete: defaults belong
// to the configuration.
type Options struct {
	// ID names the sandbox; it is also its guest's host name unless Hostname is set.
	ID, Hostname string
	// Dir is the sandbox's own directory on the host.
	Dir string
	// QEMU says how the VMM process is run.
	QEMU qemu.Config
	// Machine is the VM without the disks and shares of its containers.
	Machine vmm.MachineSpec
	// Templates holds the templates that machines are cloned from; nil boots
	// every machine.
	Templates *template.Store
	// CopyTemplates gives each clone a copy of its template's memory instead of
	// sharing what it does not write to.
	CopyTemplates bool
	// WarmTemplates keeps with a template the VMM that has run it, and starts
	// machines as copies of that where it can.
	WarmTemplates bool
	// Cgroup is where the sandbox's processes are put on the host.
	Cgroup cgroup.Place
	// Sizing says how large the machine is, and Overhead what its processes may
	// take of the host beside what the containers may use.
	Sizing   sizing.Rule
	Overhead sizing.Overhead
	// Joins says that containers may join the first one, which the sandbox ends
	// with, though it stands for no pod.
	Joins bool
	// Pod is what all containers together may use, as far as that is known
	// before they come.
	Pod sizing.Demand
	// Pool has clones that wait; nil where there is none. It is of use only with
	// Templates.
	Pool *pool.Client
	// Interfaces and Routes configure the guest's network.
	Interfaces []*agentapi.Interface
	Routes     []*agentapi.Route
	// Network is the namespace whose interfaces the guest gets; nil is none.
	Network *Network
	// Share says how the file sharing daemon is run; Dir and RunDir are set
	// by the sandbox.
	Share virtiofsd.Config
	// Follow bounds what of a directory the guest gets a copy that follows the
	// host's; zero copies none.
	Follow volume.Limits
	// DirectDir is where volumes are written down that a pod's guest mounts by
	// itself; empty without such.
	DirectDir string
	// WritableSize bounds the writable layer of a container, as for tmpfs.
	WritableSize string
	// BootTimeout bounds the time from the start of the VMM to the agent's word.
	BootTimeout time.Duration
	// StopTimeout bounds a clean power-off; afterwards the VMM is killed.
	StopTimeout time.Duration
	// HealthTimeout bounds the guest's answer to the question whether it is
	// well; 0 asks nothing.
	HealthTimeout time.Duration
	// DrainTimeout bounds how long output without a reader holds up an exit.
	DrainTimeout time.Duration

	// outside runs what is not for this sandbox alone outside of its cgroup.
	outside func(func())
}

func (o *Options) validate() error {
	if o.Machine.MemoryMiB < MinMemoryMiB {
		return fmt.Errorf("sandbox %s with %d MiB of memory: the guest needs at least %d MiB to boot: %w", o.ID, o.Machine.MemoryMiB, MinMemoryMiB, errdefs.ErrInvalidArgument)
	}
	if o.Machine.CPUs < 1 {
		return fmt.Errorf("sandbox %s with %d CPUs: want at least 1: %w", o.ID, o.Machine.CPUs, errdefs.ErrInvalidArgument)
	}
	return nil
}

// beyond runs f outside of the sandbox's cgroup.
func (o *Options) beyond(f func()) {
	if o.outside == nil {
		f()
		return
	}
	o.outside(f)
}
