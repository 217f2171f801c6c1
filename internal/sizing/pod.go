package sizing

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
)

// Annotations by which a CRI runtime tells the sum of a pod's limits to the
// runtime of its sandbox: containerd's, and below CRI-O's, which are JSON.
const (
	criPrefix = "io.kubernetes.cri.sandbox-"
	criQuota  = criPrefix + "cpu-quota"
	criPeriod = criPrefix + "cpu-period"
	criShares = criPrefix + "cpu-shares"
	criMemory = criPrefix + "memory"

	crioResources = "io.kubernetes.cri-o.PodLinuxResources"
)

// crioDemand is the part of CRI's LinuxContainerResources that counts here.
type crioDemand struct {
	Period int64 `json:"cpu_period"`
	Quota  int64 `json:"cpu_quota"`
	Shares int64 `json:"cpu_shares"`
	Memory int64 `json:"memory_limit_in_bytes"`
}

// OfPod reads what a sandbox's annotations say of all its containers together.
// Where they say nothing, or that a container has no limit, it is zero.
func OfPod(annotations map[string]string) (Demand, error) {
	var pod crioDemand
	if text, ok := annotations[crioResources]; ok {
		if err := json.Unmarshal([]byte(text), &pod); err != nil {
			return Demand{}, fmt.Errorf("annotation %s: %w: %w", crioResources, err, errdefs.ErrInvalidArgument)
		}
	}
	for key, to := range map[string]*int64{criQuota: &pod.Quota, criPeriod: &pod.Period, criShares: &pod.Shares, criMemory: &pod.Memory} {
		text, ok := annotations[key]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return Demand{}, fmt.Errorf("annotation %s=%q: want a whole number: %w", key, text, errdefs.ErrInvalidArgument)
		}
		*to = n
	}
	period := uint64(defaultPeriod)
	if pod.Period > 0 {
		period = uint64(pod.Period)
	}
	return Demand{MilliCPUs: milli(pod.Quota, period), MemoryBytes: max(pod.Memory, 0), Shares: uint64(max(pod.Shares, 0))}, nil
}
