package network

import (
	"errors"
	"fmt"
	"math"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bounds of rates in bits for a second.
const (
	MinRate = 64_000
	MaxRate = 1_000_000_000_000
)

// What may pass at once and what may wait, in time at the full rate. A frame of
// offloaded TCP is up to 64 KiB, and must fit.
const (
	burstTime = 0.02
	waitTime  = 0.05
	minBurst  = 128 << 10
)

// bound shapes what an interface sends; 0 leaves it alone.
func bound(h *netlink.Handle, link netlink.Link, rate uint64) error {
	if rate == 0 {
		return nil
	}
	if rate < MinRate || rate > MaxRate {
		return fmt.Errorf("%d bits for a second: want %d to %d: %w", rate, MinRate, uint64(MaxRate), errdefs.ErrInvalidArgument)
	}
	bytes := rate / 8
	burst := uint32(min(max(float64(bytes)*burstTime, minBurst), math.MaxInt32))
	qdisc := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(mark, 0)},
		Rate:       bytes,
		Buffer:     netlink.Xmittime(bytes, burst),
		Limit:      burst + uint32(min(float64(bytes)*waitTime, math.MaxInt32)),
	}
	if err := h.QdiscAdd(qdisc); err != nil {
		return fmt.Errorf("bound %s to %d bits for a second (the host needs sch_tbf): %w", link.Attrs().Name, rate, err)
	}
	return nil
}

// unbound undoes bound.
func unbound(h *netlink.Handle, link netlink.Link) error {
	qdiscs, err := h.QdiscList(link)
	if err != nil && !gone(err) {
		return fmt.Errorf("list queueing disciplines: %w", err)
	}
	for _, q := range qdiscs {
		if q.Attrs().Parent != netlink.HANDLE_ROOT || q.Attrs().Handle != netlink.MakeHandle(mark, 0) {
			continue
		}
		if err := h.QdiscDel(q); err != nil && !gone(err) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("remove bound of %s: %w", link.Attrs().Name, err)
		}
	}
	return nil
}
