// Package check finds out what this host offers to Dougong and says what is
// missing and how to mend it.
//
// It owns the probes and how their results are shown. It must not change the
// host, and nothing that runs containers depends on it: what a sandbox needs
// it looks up itself.
package check

import "context"

// Status is the outcome of one probe.
type Status string

// The outcomes, from good to bad. Warn means that containers run, though
// slower or without a part; Fail means that they do not run.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Result is what one probe found.
type Result struct {
	// Name is what was looked at.
	Name string `json:"name"`
	// Status says whether it will do.
	Status Status `json:"status"`
	// Detail says what was found.
	Detail string `json:"detail"`
	// Fix says how to mend it; empty when there is nothing to do.
	Fix string `json:"fix,omitempty"`
}

// Run runs all probes on a host, in the order in which people should mend
// what is wrong.
func Run(ctx context.Context, h *Host) []Result {
	var results []Result
	for _, p := range probes {
		r := p.run(ctx, h)
		r.Name = p.name
		results = append(results, r)
	}
	return results
}

// Worst is the overall outcome.
func Worst(results []Result) Status {
	rank := map[Status]int{OK: 0, Warn: 1, Fail: 2}
	worst := OK
	for _, r := range results {
		if rank[r.Status] > rank[worst] {
			worst = r.Status
		}
	}
	return worst
}

var probes = []struct {
	name string
	run  func(context.Context, *Host) Result
}{
	{"root", probeRoot},
	{"accelerator", probeAccelerator},
	{"qemu", probeQEMU},
	{"sandbox process", probeShim},
	{"guest image", probeGuestImage},
	{"guest kernel", probeKernel},
	{"crun", probeCrun},
	{"virtiofsd", probeVirtiofsd},
	{"vhost-vsock", probeVhostVsock},
	{"vhost-net", probeVhostNet},
	{"tun", probeTun},
	{"cgroup", probeCgroup},
	{"memory", probeMemory},
	{"storage", probeStorage},
	{"state", probeState},
}

func ok(detail string) Result        { return Result{Status: OK, Detail: detail} }
func warn(detail, fix string) Result { return Result{Status: Warn, Detail: detail, Fix: fix} }
func fail(detail, fix string) Result { return Result{Status: Fail, Detail: detail, Fix: fix} }
