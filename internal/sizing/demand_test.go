package sizing

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func limits(quota int64, period uint64, memory int64) *specs.LinuxResources {
	return &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}, Memory: &specs.LinuxMemory{Limit: &memory}}
}

func TestOf(t *testing.T) {
	for name, c := range map[string]struct {
		resources *specs.LinuxResources
		want      Demand
	}{
		"nothing":      {nil, Demand{}},
		"empty":        {&specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}}, Demand{}},
		"unlimited":    {limits(-1, 100000, -1), Demand{}},
		"half a CPU":   {limits(50000, 100000, 100<<20), Demand{MilliCPUs: 500, MemoryBytes: 100 << 20}},
		"period of 0":  {limits(250000, 0, 0), Demand{MilliCPUs: 2500}},
		"hardly any":   {limits(1, 1000000, 0), Demand{MilliCPUs: 1}},
		"absurd":       {limits(1<<62, 1, 1<<62), Demand{MilliCPUs: maxMilliCPUs, MemoryBytes: 1 << 62}},
		"the others":   {&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(512)), Cpus: "0-1", Mems: "0"}}, Demand{Shares: 512, CPUs: "0-1", Mems: "0"}},
		"huge pages":   {&specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}, {Pagesize: "1GB", Limit: 1 << 30}}}, Demand{HugeBytes: 4<<20 + 1<<30}},
		"unified ones": {&specs.LinuxResources{Unified: map[string]string{"cpuset.cpus": "1", "cpuset.mems": "0"}}, Demand{CPUs: "1", Mems: "0"}},
	} {
		if diff := cmp.Diff(c.want, Of(c.resources)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWith(t *testing.T) {
	is := Demand{MilliCPUs: 500, MemoryBytes: 100, Shares: 512, CPUs: "0", Mems: "0"}
	if diff := cmp.Diff(is, is.With(&specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}})); diff != "" {
		t.Errorf("an update of nothing: %s", diff)
	}
	want := Demand{MilliCPUs: 2000, MemoryBytes: 200, Shares: 512, CPUs: "0", Mems: "0"}
	if diff := cmp.Diff(want, is.With(limits(200000, 100000, 200))); diff != "" {
		t.Errorf("more of both: %s", diff)
	}
	want = Demand{Shares: 512, CPUs: "0", Mems: "0"}
	if diff := cmp.Diff(want, is.With(limits(-1, 100000, -1))); diff != "" {
		t.Errorf("limits taken back: %s", diff)
	}
}

func TestTogetherAndSum(t *testing.T) {
	a := Demand{MilliCPUs: 500, MemoryBytes: 100, Shares: 2, CPUs: "0-1", Mems: "0"}
	b := Demand{MilliCPUs: 1000, MemoryBytes: 50, Shares: 1024, CPUs: "3", Mems: "0"}
	if diff := cmp.Diff(Demand{MilliCPUs: 1500, MemoryBytes: 150, Shares: 1026, CPUs: "0-1,3", Mems: "0"}, Together(a, b)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Demand{}, Together(a, b, Demand{})); diff != "" {
		t.Errorf("one has no limit: %s", diff)
	}
	if diff := cmp.Diff(Demand{}, Together()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Demand{MilliCPUs: 1500, MemoryBytes: 150}, Sum(a, Demand{}, b)); diff != "" {
		t.Error(diff)
	}
	if got := Sum(Demand{MemoryBytes: 1 << 62}, Demand{MemoryBytes: 1 << 62}); got.MemoryBytes != 1<<63-1 {
		t.Errorf("a sum too large is %d", got.MemoryBytes)
	}
	if diff := cmp.Diff(Demand{MilliCPUs: 1000, MemoryBytes: 100, Shares: 2, CPUs: "0-1", Mems: "0"}, a.Larger(b)); diff != "" {
		t.Error(diff)
	}
}

func TestOfPod(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		want        Demand
	}{
		"nothing": {map[string]string{"io.kubernetes.cri.container-type": "sandbox"}, Demand{}},
		"containerd's": {
			map[string]string{criQuota: "150000", criPeriod: "100000", criShares: "1536", criMemory: "268435456"},
			Demand{MilliCPUs: 1500, MemoryBytes: 256 << 20, Shares: 1536},
		},
		"containerd's of no limits": {map[string]string{criQuota: "0", criPeriod: "100000", criShares: "2", criMemory: "0"}, Demand{Shares: 2}},
		"a quota below 0":           {map[string]string{criQuota: "-1", criPeriod: "100000", criMemory: "-1"}, Demand{}},
		"CRI-O's": {
			map[string]string{crioResources: `{"cpu_period":50000,"cpu_quota":100000,"cpu_shares":2048,"memory_limit_in_bytes":1073741824}`},
			Demand{MilliCPUs: 2000, MemoryBytes: 1 << 30, Shares: 2048},
		},
	} {
		got, err := OfPod(c.annotations)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for key, value := range map[string]string{criQuota: "many", criMemory: "1e9", crioResources: "{"} {
		if _, err := OfPod(map[string]string{key: value}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s=%s gives %v", key, value, err)
		}
	}
}

func FuzzOfPod(f *testing.F) {
	f.Add(criQuota, "150000")
	f.Add(crioResources, `{"cpu_period":50000}`)
	f.Fuzz(func(t *testing.T, key, value string) {
		d, err := OfPod(map[string]string{key: value, criPeriod: "7"})
		if err == nil && (d.MilliCPUs < 0 || d.MemoryBytes < 0 || d.MilliCPUs > maxMilliCPUs) {
			t.Errorf("%s=%s gives %+v", key, value, d)
		}
	})
}
