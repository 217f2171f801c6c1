package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"google.golang.org/protobuf/proto"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/pool"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/template"
	"dougong.dev/dougong/internal/vmm"
)

// recipe says how a machine for the pool is made.
type recipe struct {
	// Template is the key of the template that it is a clone of.
	Template string
	// Machine is the clone, with nothing in it that is a sandbox's own.
	Machine vmm.MachineSpec
	// Network is a ConfigureRequest with the network of all clones of the
	// template, encoded.
	Network []byte
	// Copied gives it memory that other processes can serve devices in, and Shared
	// says that one will.
	Copied, Shared bool
}

// Kind is the kind of the machine that spec needs; false when no waiting
// machine could stand for it.
func Kind(o Options, spec vmm.MachineSpec) (kind pool.Kind, ok bool, err error) {
	if qemu.NeedsPrivilege(spec) {
		return pool.Kind{}, false, nil
	}
	key, err := templateKey(o, spec)
	if err != nil {
		return pool.Kind{}, false, err
	}
	r := recipe{Template: key, Machine: waiting(spec), Copied: len(spec.Shares) > 0 || o.CopyTemplates, Shared: len(spec.Shares) > 0}
	if r.Network, err = o.templateNetwork(); err != nil {
		return pool.Kind{}, false, err
	}
	if kind.Recipe, err = json.Marshal(r); err != nil {
		return pool.Kind{}, false, fmt.Errorf("encode the kind of a machine: %w", err)
	}
	if slices.ContainsFunc(spec.NICs, func(n vmm.NIC) bool { return n.User != nil }) {
		if kind.NetNS, err = pool.NetNS(); err != nil {
			return pool.Kind{}, false, err
		}
	}
	kind.Key, kind.Description = template.Key(string(kind.Recipe), fmt.Sprint(kind.NetNS)), describe(spec)
	if r.Copied {
		kind.Description += ", memory of its own"
	}
	return kind, true, nil
}

// waiting is spec without what is the sandbox's own. Other than a template it
// has the user network that the sandbox has, but for the forwards.
func waiting(spec vmm.MachineSpec) vmm.MachineSpec {
	w := qemu.Blank(spec)
	for i := range w.Disks {
		w.Disks[i].File = nil
	}
	for i, n := range spec.NICs {
		if n.User != nil {
			w.NICs[i].User = &vmm.UserNetwork{Restrict: n.User.Restrict}
		}
		if n.Tap != nil {
			w.NICs[i].Tap = &vmm.Tap{Files: make([]*os.File, len(n.Tap.Files))}
		}
	}
	return w
}

// options are those with which a machine of the recipe is made.
func (r *recipe) options(ctx context.Context, base Options) (Options, error) {
	var network agentapi.ConfigureRequest
	if err := proto.Unmarshal(r.Network, &network); err != nil {
		return Options{}, fmt.Errorf("read the network of a machine for the pool: %w", err)
	}
	base.Machine, base.Interfaces, base.Routes = r.Machine, network.Interfaces, network.Routes
	return base, ctx.Err()
}
