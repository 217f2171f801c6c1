package sandbox

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	agentapi "dougong.dev/dougong/api/agent/v1"
)

// hugePages are numbers of pages by their sizes in bytes.
type hugePages map[uint64]uint64

// pageSizes are those of the machine by the names that specs have for them.
var pageSizes = map[string]uint64{"2MB": 2 << 20, "1GB": 1 << 30}

// hugePagesOf are the pages that a container may use. Sizes that the machine
// does not have are left to the guest, which refuses their limits.
func hugePagesOf(r *specs.LinuxResources) hugePages {
	if r == nil {
		return nil
	}
	var pages hugePages
	for _, l := range r.HugepageLimits {
		size, known := pageSizes[l.Pagesize]
		if !known || l.Limit == 0 {
			continue
		}
		if pages == nil {
			pages = hugePages{}
		}
		pages[size] += l.Limit / size
	}
	return pages
}

// reservePages has the guest keep the huge pages that its containers may use,
// in memory that the machine has for them. resizing must be held.
func (s *Sandbox) reservePages(ctx context.Context) error {
	want := s.wantedPages()
	if maps.Equal(want, s.reserved) {
		return nil
	}
	request := &agentapi.ReserveHugePagesRequest{}
	for _, size := range slices.Sorted(maps.Keys(want)) {
		request.Pages = append(request.Pages, &agentapi.HugePages{Size: size, Count: want[size]})
	}
	for size := range s.reserved {
		if _, still := want[size]; !still {
			request.Pages = append(request.Pages, &agentapi.HugePages{Size: size})
		}
	}
	if _, err := s.client.VM.ReserveHugePages(ctx, request); err != nil {
		return fmt.Errorf("reserve huge pages in the guest: %w", err)
	}
	s.reserved = want
	return nil
}

// wantedPages are those of all containers; an absurd number is the largest.
func (s *Sandbox) wantedPages() hugePages {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := hugePages{}
	for _, c := range s.containers {
		for size, n := range c.pages {
			want[size] += n
		}
	}
	return want
}

// checkPages refuses limits that are no whole pages: the rest is of no use.
func checkPages(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	for _, l := range r.HugepageLimits {
		if size, known := pageSizes[l.Pagesize]; l.Limit != 0 && (!known || l.Limit > 1<<50 || l.Limit%size != 0) {
			return fmt.Errorf("linux.resources.hugepageLimits: %d bytes of pages of %s: the virtual machine has pages of 2MB and 1GB: %w", l.Limit, l.Pagesize, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
