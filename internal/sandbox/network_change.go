package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"google.golang.org/protobuf/proto"

	"dougong.dev/dougong/internal/network"
	"dougong.dev/dougong/internal/qemu"
)

// syncNetwork has the guest's network be as the namespace is now. What could not
// be done is tried again when the namespace has changed.
func (s *Sandbox) syncNetwork(ctx context.Context) error {
	n := s.network
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, plugTimeout, fmt.Errorf("the guest's network was not set up within %v", plugTimeout))
	defer cancel()
	n.mu.Lock()
	defer n.mu.Unlock()
	plan, err := n.look()
	if err != nil {
		return err
	}
	err = errors.Join(n.unplugGone(ctx, s.machine, plan.Links), n.plugNew(ctx, s.machine, plan.Links), n.follow(plan.Links))
	request := n.describe(plan)
	if proto.Equal(request, n.sent) {
		return err
	}
	if _, rerr := s.client.VM.SetNetwork(ctx, request); rerr != nil {
		return errors.Join(err, fmt.Errorf("set up the guest's network: %w", rerr))
	}
	n.sent = request
	return err
}

// unplugGone takes devices from the guest whose interfaces are not there any
// more.
func (n *networking) unplugGone(ctx context.Context, m *qemu.Machine, links []network.Link) error {
	var errs []error
	n.attached = slices.DeleteFunc(n.attached, func(a *attachment) bool {
		if slices.ContainsFunc(links, func(l network.Link) bool { return l.Index == a.tap.Link.Index }) {
			return false
		}
		ctx, cancel := context.WithTimeoutCause(ctx, unplugTimeout, fmt.Errorf("waited for %v", unplugTimeout))
		defer cancel()
		errs = append(errs, m.DetachNIC(ctx, a.id()), a.tap.Detach())
		slog.InfoContext(ctx, "interface taken from the guest", "sandbox", n.id, "interface", a.tap.Link.Name)
		return true
	})
	return errors.Join(errs...)
}

// plugNew gives the guest devices for interfaces that have come.
func (n *networking) plugNew(ctx context.Context, m *qemu.Machine, links []network.Link) error {
	var errs []error
	for _, l := range links {
		if n.of(l) != nil || n.refused[l.Index] == l {
			continue
		}
		if err := n.plug(ctx, m, l); err != nil {
			n.refused[l.Index] = l
			errs = append(errs, err)
			continue
		}
		delete(n.refused, l.Index)
		slog.InfoContext(ctx, "interface given to the guest", "sandbox", n.id, "interface", l.Name)
	}
	return errors.Join(errs...)
}

func (n *networking) plug(ctx context.Context, m *qemu.Machine, l network.Link) error {
	a, err := n.attach(l, func() (*network.Tap, error) { return n.namespace.Attach(ctx, l, n.options) })
	if err != nil {
		return err
	}
	err = m.AttachNIC(ctx, a.nic())
	a.tap.Inherited()
	if err == nil {
		return nil
	}
	n.attached = n.attached[:len(n.attached)-1]
	return errors.Join(fmt.Errorf("connect interface %s: %w", l.Name, err), a.tap.Detach())
}

// follow keeps up with interfaces that have changed.
func (n *networking) follow(links []network.Link) error {
	var errs []error
	for _, l := range links {
		if a := n.of(l); a != nil {
			errs = append(errs, a.tap.Follow(l))
		}
	}
	return errors.Join(errs...)
}

// watchNetwork follows the namespace until the sandbox ends.
func (s *Sandbox) watchNetwork() error {
	if s.network == nil {
		return nil
	}
	changes, stop, err := s.network.namespace.Watch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range changes {
			if err := s.syncNetwork(ctx); err != nil && ctx.Err() == nil {
				slog.Warn("the network has changed, and the guest cannot follow", "sandbox", s.opts.ID, "error", err)
			}
			s.offerResolver(ctx)
		}
	}()
	s.releases.push(func() {
		cancel()
		stop()
		<-ended
	})
	return nil
}
