package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Options say how interfaces are connected.
type Options struct {
	// Queues is the number of queues of each, 1 to MaxQueues.
	Queues int
	// Receive and Send bound what the guest receives and sends by each, in bits
	// for a second; 0 is no bound.
	Receive, Send uint64
}

// mark is the priority of our filters and the major number of our shaping: by it
// what a killed process has left is found.
const mark = 0xd006

// Tap is an interface of a namespace that leads to a VMM.
type Tap struct {
	// Link is the interface.
	Link Link
	// Files are the queues, for the VMM to inherit.
	Files []*os.File

	namespace *Namespace
	name      string
	// made says that the tap is in the namespace, or was.
	made   bool
	shaped bool
	once   sync.Once
	err    error
}

// Attach makes a tap beside an interface and joins the two. On an error the
// namespace is as it was.
func (n *Namespace) Attach(ctx context.Context, l Link, o Options) (*Tap, error) {
	return n.attach(ctx, l, o, func(t *Tap) (err error) {
		t.Files, err = makeTap(t.name, o.Queues)
		return err
	})
}

// AttachBlank is Attach with a tap that Blank has made and a VMM holds already:
// it is moved here. queue is one of its files, and stays the caller's; the Tap
// has none. On an error the namespace is as it was, and the tap may be gone.
func (n *Namespace) AttachBlank(ctx context.Context, l Link, o Options, queue *os.File) (*Tap, error) {
	return n.attach(ctx, l, o, func(t *Tap) error { return n.bring(queue, t.name) })
}

func (n *Namespace) attach(ctx context.Context, l Link, o Options, get func(t *Tap) error) (*Tap, error) {
	t := &Tap{Link: l, namespace: n, name: tapName(l.Index), shaped: o.Send > 0}
	err := n.handle(func(h *netlink.Handle) error {
		if err := checkFree(h, l, o); err != nil {
			return err
		}
		if err := get(t); err != nil {
			return err
		}
		t.made = true
		return t.join(ctx, h, o)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect interface %s: %w", l.Name, err), t.undo())
	}
	return t, nil
}

// checkFree refuses an interface whose traffic somebody has a hand in already:
// it could not be given back as it was.
func checkFree(h *netlink.Handle, l Link, o Options) error {
	link, err := h.LinkByIndex(l.Index)
	if err != nil {
		return err
	}
	qdiscs, err := h.QdiscList(link)
	if err != nil {
		return fmt.Errorf("list queueing disciplines: %w", err)
	}
	for _, q := range qdiscs {
		a := q.Attrs()
		switch {
		case a.Parent == netlink.HANDLE_INGRESS || a.Parent == netlink.HANDLE_CLSACT:
			return fmt.Errorf("it has a queueing discipline for what it receives (%s) already; does another sandbox use this network namespace? %w", q.Type(), errdefs.ErrFailedPrecondition)
		case a.Parent == netlink.HANDLE_ROOT && a.Handle != 0 && o.Send > 0:
			return fmt.Errorf("it has a queueing discipline (%s) already, so what it sends cannot be bounded by another: %w", q.Type(), errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// join redirects both ways.
func (t *Tap) join(ctx context.Context, h *netlink.Handle, o Options) error {
	tap, err := h.LinkByName(t.name)
	if err != nil {
		return fmt.Errorf("find tap: %w", err)
	}
	link, err := h.LinkByIndex(t.Link.Index)
	if err != nil {
		return err
	}
	if err := disableIPv6(t.name); err != nil {
		return fmt.Errorf("set up tap: %w", err)
	}
	if err := h.LinkSetMTU(tap, t.Link.MTU); err != nil {
		return fmt.Errorf("set MTU %d of tap: %w", t.Link.MTU, err)
	}
	for _, shape := range []struct {
		link netlink.Link
		rate uint64
	}{{tap, o.Receive}, {link, o.Send}} {
		if err := bound(h, shape.link, shape.rate); err != nil {
			return err
		}
	}
	if err := h.LinkSetUp(tap); err != nil {
		return fmt.Errorf("bring up tap: %w", err)
	}
	// Nothing reaches the guest before it can answer.
	if err := redirect(ctx, h, tap, link); err != nil {
		return err
	}
	return redirect(ctx, h, link, tap)
}

// How often, and how many times, an ingress discipline that is on its way out
// is looked after: the kernel removes it when nobody looks at it any more.
const (
	busyLook  = 10 * time.Millisecond
	busyLooks = 100
)

// redirect sends what arrives at one interface out by another.
func redirect(ctx context.Context, h *netlink.Handle, from, to netlink.Link) error {
	if err := addIngress(ctx, h, from); err != nil {
		return fmt.Errorf("add ingress discipline to %s: %w", from.Attrs().Name, err)
	}
	// u32 and mirred are what every kernel has; others are missing on some.
	filter := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: from.Attrs().Index, Parent: netlink.MakeHandle(0xffff, 0), Priority: mark, Protocol: unix.ETH_P_ALL,
		},
		Actions: []netlink.Action{&netlink.MirredAction{
			ActionAttrs: netlink.ActionAttrs{Action: netlink.TC_ACT_STOLEN}, MirredAction: netlink.TCA_EGRESS_REDIR, Ifindex: to.Attrs().Index,
		}},
	}
	if err := h.FilterAdd(filter); err != nil {
		return fmt.Errorf("redirect %s to %s (the host needs cls_u32 and act_mirred): %w", from.Attrs().Name, to.Attrs().Name, err)
	}
	return nil
}

func addIngress(ctx context.Context, h *netlink.Handle, link netlink.Link) error {
	tick := time.NewTicker(busyLook)
	defer tick.Stop()
	for look := 0; ; look++ {
		err := h.QdiscAdd(ingress(link))
		if !errors.Is(err, unix.EBUSY) || look == busyLooks {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func ingress(link netlink.Link) netlink.Qdisc {
	return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_INGRESS, Handle: netlink.MakeHandle(0xffff, 0),
	}}
}

// Follow keeps up with an interface that has changed.
func (t *Tap) Follow(l Link) error {
	if l.MTU == t.Link.MTU {
		t.Link = l
		return nil
	}
	err := t.namespace.handle(func(h *netlink.Handle) error {
		tap, err := h.LinkByName(t.name)
		if err != nil {
			return fmt.Errorf("find tap: %w", err)
		}
		return h.LinkSetMTU(tap, l.MTU)
	})
	if err != nil {
		return fmt.Errorf("give interface %s an MTU of %d: %w", l.Name, l.MTU, err)
	}
	t.Link = l
	return nil
}

// Inherited closes the files of a tap that a VMM has inherited. The tap then
// ends with the VMM, at the latest.
func (t *Tap) Inherited() { closeAll(t.Files) }

// Detach gives the interface back as it was. It may be called more than once.
func (t *Tap) Detach() error {
	t.once.Do(func() {
		if err := t.undo(); err != nil {
			t.err = fmt.Errorf("disconnect interface %s: %w", t.Link.Name, err)
		}
	})
	return t.err
}

func (t *Tap) undo() error {
	closeAll(t.Files)
	if !t.made {
		return nil
	}
	return t.namespace.handle(func(h *netlink.Handle) error {
		var errs []error
		if link, err := h.LinkByIndex(t.Link.Index); err == nil {
			errs = append(errs, release(h, link))
		}
		// It has gone by itself where nobody else holds it.
		if tap, err := h.LinkByName(t.name); err == nil {
			if err := h.LinkDel(tap); err != nil && !gone(err) {
				errs = append(errs, fmt.Errorf("delete tap: %w", err))
			}
		}
		return errors.Join(errs...)
	})
}

// release removes from an interface what is marked as ours.
func release(h *netlink.Handle, link netlink.Link) error {
	var errs []error
	filters, err := h.FilterList(link, netlink.MakeHandle(0xffff, 0))
	if err != nil && !gone(err) && !errors.Is(err, unix.EINVAL) {
		errs = append(errs, fmt.Errorf("list filters: %w", err))
	}
	for _, f := range filters {
		if f.Attrs().Priority != mark {
			continue
		}
		if err := h.QdiscDel(ingress(link)); err != nil && !gone(err) && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("remove ingress discipline: %w", err))
		}
		break
	}
	return errors.Join(append(errs, unbound(h, link))...)
}

// Restore gives back what a process that was killed had attached in the
// namespace at a path. One that is gone itself needs nothing.
func Restore(path string) error {
	n, err := Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer n.Close()
	return n.Restore()
}

// Restore gives back what a process that was killed had attached. An interface
// whose tap is there has somebody who lives.
func (n *Namespace) Restore() error {
	return n.handle(func(h *netlink.Handle) error {
		links, err := h.LinkList()
		if err != nil {
			return fmt.Errorf("list interfaces: %w", err)
		}
		var errs []error
		for _, l := range links {
			if !isTap(Link{Name: l.Attrs().Name, Kind: l.Type()}) && !hasTap(links, l) {
				errs = append(errs, release(h, l))
			}
		}
		return errors.Join(errs...)
	})
}

func hasTap(links []netlink.Link, of netlink.Link) bool {
	return slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == tapName(of.Attrs().Index) })
}
