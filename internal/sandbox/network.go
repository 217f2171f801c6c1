package sandbox

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/network"
	"dougong.dev/dougong/internal/vmm"
)

// Network is a network namespace whose interfaces the guest gets, those that
// come later too.
type Network struct {
	// Path leads to the namespace; empty makes a new one.
	Path string
	// Options say how interfaces are connected.
	network.Options
}

const (
	// maxColdNICs is how many interfaces are there when the machine starts.
	// Each number is a kind of machine with a template of its own; more are
	// plugged in, which takes longer.
	maxColdNICs = 4
	// unplugTimeout is how long a guest may keep a device that is taken away,
	// and plugTimeout how long one may take to come up there.
	unplugTimeout = 10 * time.Second
	plugTimeout   = time.Minute
)

// networking is the network of a sandbox that has a namespace for it.
type networking struct {
	id        string
	namespace *network.Namespace
	options   network.Options

	mu sync.Mutex
	// attached are the interfaces that the guest has.
	attached []*attachment
	// refused are those that could not be connected, as they were then: nobody
	// tries again before they change.
	refused map[int]network.Link
	// cold is what the machine starts with.
	cold network.Plan
	// sent is what the guest knows.
	sent *agentapi.SetNetworkRequest
}

// attachment is an interface of the namespace with its device.
type attachment struct {
	tap *network.Tap
	// number makes the names of the device, which clones of a template share.
	number int
}

func (a *attachment) id() string  { return nicID(a.number) }
func (a *attachment) mac() string { return nicMAC(a.number) }

func (a *attachment) nic() vmm.NIC {
	return vmm.NIC{ID: a.id(), MAC: a.mac(), Tap: &vmm.Tap{Files: a.tap.Files}}
}

func nicID(number int) string { return fmt.Sprintf("net%d", number) }

// nicMAC is what the device comes with. The guest gives it the address of the
// interface.
func nicMAC(number int) string { return fmt.Sprintf("02:64:6f:75:67:%02x", number) }

// openNetwork opens the sandbox's network namespace, or makes it. made is the
// path of one that somebody has made for the first container.
func (s *Sandbox) openNetwork(made string) error {
	if s.opts.Network == nil || s.network != nil {
		return nil
	}
	open := network.New
	if path := cmp.Or(s.opts.Network.Path, made); path != "" {
		open = func() (*network.Namespace, error) { return network.Open(path) }
	}
	namespace, err := open()
	if err != nil {
		return err
	}
	// A sandbox before this one may have been killed.
	if err := namespace.Restore(); err != nil {
		_ = namespace.Close()
		return err
	}
	s.network = &networking{id: s.opts.ID, namespace: namespace, options: s.opts.Network.Options, refused: make(map[int]network.Link)}
	s.releases.push(s.network.close)
	return nil
}

// NetworkPath leads to the network namespace of the container's sandbox, from
// any process, while the sandbox lives; it is empty without one.
func (c *Container) NetworkPath() string {
	if c.sandbox.network == nil {
		return ""
	}
	return c.sandbox.network.namespace.Path()
}

// close gives every interface back as it was.
func (n *networking) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.detach()
	logError("close network namespace", n.id, n.namespace.Close())
}

// outline looks at what is in the namespace before the machine starts, and
// returns the NICs that it is to have, without the files of their taps.
func (n *networking) outline() ([]vmm.NIC, error) {
	if n == nil {
		return nil, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	plan, err := n.look()
	if err != nil {
		return nil, err
	}
	cold := min(len(plan.Links), maxColdNICs)
	plan.Links, plan.Guest.Interfaces = plan.Links[:cold], plan.Guest.Interfaces[:cold]
	n.cold = plan
	var nics []vmm.NIC
	for i := range cold {
		nics = append(nics, vmm.NIC{ID: nicID(i), MAC: nicMAC(i), Tap: &vmm.Tap{Files: make([]*os.File, max(n.options.Queues, 1))}})
	}
	return nics, nil
}

// wire connects what outline has found with taps for a machine that is to be
// started, whose NICs get the files. They are to be closed by inherited.
func (n *networking) wire(ctx context.Context, nics []vmm.NIC) error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, l := range n.cold.Links {
		a, err := n.attach(l, func() (*network.Tap, error) { return n.namespace.Attach(ctx, l, n.options) })
		if err != nil {
			return err
		}
		nics[i] = a.nic()
	}
	n.sent = n.describe(n.cold)
	return nil
}

// rewire connects it with the taps of a machine that has waited, by a file of
// each. After an error nothing is connected, and the machine has no network.
func (n *networking) rewire(ctx context.Context, queues []*os.File) error {
	defer closeFiles(queues)
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(queues) != len(n.cold.Links) {
		// They went with the machine.
		return errMachineEnded
	}
	for i, l := range n.cold.Links {
		if _, err := n.attach(l, func() (*network.Tap, error) { return n.namespace.AttachBlank(ctx, l, n.options, queues[i]) }); err != nil {
			n.detach()
			return err
		}
	}
	n.sent = n.describe(n.cold)
	return nil
}

// unwire takes back what wire or rewire have done.
func (n *networking) unwire() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.detach()
}

// detach must be called with mu held.
func (n *networking) detach() {
	for _, a := range n.attached {
		logError("disconnect", n.id, a.tap.Detach())
	}
	n.attached = nil
}

// inherited closes what the machine has its own copies of.
func (n *networking) inherited() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.attached {
		a.tap.Inherited()
	}
}

func (n *networking) look() (network.Plan, error) {
	snapshot, err := n.namespace.Snapshot()
	if err != nil {
		return network.Plan{}, err
	}
	return network.NewPlan(snapshot), nil
}

// attach must be called with mu held.
func (n *networking) attach(l network.Link, get func() (*network.Tap, error)) (*attachment, error) {
	tap, err := get()
	if err != nil {
		return nil, err
	}
	a := &attachment{tap: tap}
	for slices.ContainsFunc(n.attached, func(o *attachment) bool { return o.number == a.number }) {
		a.number++
	}
	n.attached = append(n.attached, a)
	return a, nil
}

// describe is what the guest is told of a plan: of the interfaces that it has.
func (n *networking) describe(p network.Plan) *agentapi.SetNetworkRequest {
	request := &agentapi.SetNetworkRequest{}
	known := make(map[string]bool)
	for i, guest := range p.Guest.Interfaces {
		if a := n.of(p.Links[i]); a != nil {
			guest.Mac = a.mac()
			known[guest.Name] = true
			request.Interfaces = append(request.Interfaces, guest)
		}
	}
	for _, r := range p.Guest.Routes {
		if known[r.Device] {
			request.Routes = append(request.Routes, r)
		}
	}
	for _, e := range p.Guest.Neighbours {
		if known[e.Device] {
			request.Neighbours = append(request.Neighbours, e)
		}
	}
	return request
}

func (n *networking) of(l network.Link) *attachment {
	at := slices.IndexFunc(n.attached, func(a *attachment) bool { return a.tap.Link.Index == l.Index })
	if at < 0 {
		return nil
	}
	return n.attached[at]
}

// guestNetwork is what the guest is told when it is configured.
func (s *Sandbox) guestNetwork() *agentapi.SetNetworkRequest {
	request := &agentapi.SetNetworkRequest{Interfaces: s.opts.Interfaces, Routes: s.opts.Routes}
	if s.network != nil {
		s.network.mu.Lock()
		defer s.network.mu.Unlock()
		proto.Merge(request, s.network.sent)
	}
	return request
}

// blankTaps gives a machine that is to be saved taps that lead nowhere, as many
// as it has, and returns all their files, also on an error.
func blankTaps(nics []vmm.NIC) (files []*os.File, err error) {
	for i, nic := range nics {
		if nic.Tap == nil {
			continue
		}
		queues, err := network.Blank(len(nic.Tap.Files))
		if err != nil {
			return files, err
		}
		files = append(files, queues...)
		nics[i].Tap = &vmm.Tap{Files: queues}
	}
	return files, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
