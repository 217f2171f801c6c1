package sizing

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

var rule = Rule{Start: Size{1, 512}, Max: Size{8, 16384}}

func TestFit(t *testing.T) {
	for name, c := range map[string]struct {
		demand Demand
		want   Size
	}{
		"no limits":        {Demand{}, Size{1, 512}},
		"small":            {Demand{MilliCPUs: 500, MemoryBytes: 100 << 20}, Size{1, 512}},
		"large":            {Demand{MilliCPUs: 2500, MemoryBytes: 1 << 30}, Size{3, 1280}},
		"beyond the most":  {Demand{MilliCPUs: 99000, MemoryBytes: 1 << 60}, Size{8, 16384}},
		"just above a CPU": {Demand{MilliCPUs: 1001, MemoryBytes: 512 << 20}, Size{2, 768}},
	} {
		if got := rule.Fit(c.demand); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	small, huge := Demand{MilliCPUs: 500, MemoryBytes: 100 << 20}, Demand{MilliCPUs: 9000, MemoryBytes: 16 << 30}
	for name, c := range map[string]struct {
		before, now Demand
		says        string
	}{
		"fits":           {small, Demand{MilliCPUs: 8000, MemoryBytes: 15 << 30}, ""},
		"too many CPUs":  {small, Demand{MilliCPUs: 9000}, "vm.max_cpus"},
		"too much":       {small, Demand{MemoryBytes: 16 << 30}, "vm.max_memory_mib"},
		"as bad before":  {huge, huge, ""},
		"less than that": {huge, small, ""},
	} {
		err := rule.Check(c.before, c.now)
		if c.says == "" && err != nil || c.says != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHost(t *testing.T) {
	o := Overhead{MilliCPUs: 250, MemoryMiB: 128}
	if diff := cmp.Diff(Demand{MemoryBytes: 640 << 20}, o.Host(Demand{}, Size{1, 512})); diff != "" {
		t.Errorf("no limits: %s", diff)
	}
	want := Demand{MilliCPUs: 750, MemoryBytes: 640 << 20, Shares: 2, CPUs: "0"}
	if diff := cmp.Diff(want, o.Host(Demand{MilliCPUs: 500, MemoryBytes: 100 << 20, Shares: 2, CPUs: "0"}, Size{1, 512})); diff != "" {
		t.Error(diff)
	}
}
