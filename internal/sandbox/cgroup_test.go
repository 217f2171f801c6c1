package sandbox

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"dougong.dev/dougong/internal/sizing"
)

func TestHostDemand(t *testing.T) {
	small := sizing.Demand{MilliCPUs: 500, MemoryBytes: 100, Shares: 512}
	for name, c := range map[string]struct {
		pod        sizing.Demand
		containers []sizing.Demand
		want       sizing.Demand
	}{
		"one container":                {sizing.Demand{}, []sizing.Demand{small}, small},
		"one of two has no limit":      {sizing.Demand{}, []sizing.Demand{small, {}}, sizing.Demand{}},
		"a pod":                        {sizing.Demand{MilliCPUs: 900, MemoryBytes: 150, Shares: 900}, []sizing.Demand{{Shares: 2}, small}, sizing.Demand{MilliCPUs: 900, MemoryBytes: 150, Shares: 900}},
		"a pod whose containers grew":  {sizing.Demand{MilliCPUs: 900, MemoryBytes: 150}, []sizing.Demand{small, small}, sizing.Demand{MilliCPUs: 1000, MemoryBytes: 200}},
		"a pod on some CPUs":           {sizing.Demand{Shares: 2}, []sizing.Demand{{}, {CPUs: "1"}, {CPUs: "3"}}, sizing.Demand{Shares: 2, CPUs: "1,3"}},
		"a pod without limits, partly": {sizing.Demand{Shares: 2, MemoryBytes: 300}, []sizing.Demand{small}, sizing.Demand{Shares: 2, MemoryBytes: 300}},
	} {
		if diff := cmp.Diff(c.want, hostDemand(c.pod, c.containers)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
