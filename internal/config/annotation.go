package config

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Annotations of a container's OCI spec by which a caller shapes its sandbox.
// No other annotation with this prefix is accepted.
const (
	AnnotationPrefix = "dougong.dev/"
	// AnnotationCPUs is the number of virtual CPUs.
	AnnotationCPUs = AnnotationPrefix + "cpus"
	// AnnotationMemory is the VM's memory in MiB.
	AnnotationMemory = AnnotationPrefix + "memory-mib"
	// AnnotationNetwork is a NetworkMode.
	AnnotationNetwork = AnnotationPrefix + "network"
	// AnnotationForwards is a JSON list of Forward.
	AnnotationForwards = AnnotationPrefix + "forwards"
	// AnnotationTemplate says "on" or "off" to starting as a clone.
	AnnotationTemplate = AnnotationPrefix + "template"
	// AnnotationQueues is the number of queues of each network interface.
	AnnotationQueues = AnnotationPrefix + "network-queues"
	// AnnotationInbound and AnnotationOutbound are rates in bits for a second.
	AnnotationInbound  = AnnotationPrefix + "network-inbound-rate"
	AnnotationOutbound = AnnotationPrefix + "network-outbound-rate"
	// AnnotationFollow names mounts, of each container by itself.
	AnnotationFollow = AnnotationPrefix + "follow"
)

// Annotation documents one annotation.
type Annotation struct{ Name, Doc string }

// Annotations lists every annotation that is accepted.
func Annotations() []Annotation {
	return []Annotation{
		{AnnotationCPUs, "Virtual CPUs, a whole number above 0, instead of `vm.cpus`."},
		{AnnotationMemory, "Memory in MiB, a whole number above 0, instead of `vm.memory_mib`."},
		{AnnotationNetwork, "`user` or `none`, instead of `network.mode`."},
		{AnnotationForwards, "Published ports: a JSON list of objects with `protocol`, `hostIp`, `hostPort` and `guestPort`."},
		{AnnotationTemplate, "`on` or `off`, instead of `template.enabled`: whether the virtual machine starts as a clone of a saved one."},
		{AnnotationQueues, "Queues of each interface of the container's network namespace, 1 to 16; 1 without it. More than the VM has CPUs are of no use."},
		{AnnotationInbound, "Most that the container may receive by each interface of its network namespace, in bits for a second: 64k to 1000G, such as `10M` (10 million)."},
		{AnnotationOutbound, "Most that it may send, likewise."},
		{AnnotationFollow, "Paths in the container, separated by commas, of read-only mounts of directories that the guest gets copies of, which follow the host's with inotify events, up to `share.follow_mib`. It counts for each container of a pod that has it."},
	}
}

// Forward is a port of the host that leads into the sandbox.
type Forward struct {
	Protocol  string `json:"protocol"`
	HostIP    string `json:"hostIp,omitempty"`
	HostPort  uint16 `json:"hostPort"`
	GuestPort uint16 `json:"guestPort"`
}

// Overrides are what annotations say; zero values leave the configuration's.
type Overrides struct {
	CPUs      int
	MemoryMiB int
	Network   string
	Forwards  []Forward
	// Template is nil when nothing is said.
	Template *bool
	// Link is about the interfaces of a network namespace.
	Link Link
}

// Link says how an interface is connected.
type Link struct {
	// Queues is 0 when nothing is said.
	Queues int
	// Inbound and Outbound are bits for a second, 0 for no bound.
	Inbound, Outbound uint64
}

// Bounds of Link.
const (
	maxQueues = 16
	minRate   = 64_000
	maxRate   = 1_000_000_000_000
)

// ParseAnnotations reads the annotations of a spec. One with our prefix that
// is unknown or malformed is errdefs.ErrInvalidArgument.
func ParseAnnotations(annotations map[string]string) (Overrides, error) {
	var o Overrides
	for key, value := range annotations {
		if len(key) < len(AnnotationPrefix) || key[:len(AnnotationPrefix)] != AnnotationPrefix {
			continue
		}
		if err := o.set(key, value); err != nil {
			return Overrides{}, fmt.Errorf("annotation %s=%q: %w: %w", key, value, err, errdefs.ErrInvalidArgument)
		}
	}
	return o, nil
}

func (o *Overrides) set(key, value string) error {
	switch key {
	case AnnotationCPUs:
		return positive(value, &o.CPUs)
	case AnnotationMemory:
		return positive(value, &o.MemoryMiB)
	case AnnotationNetwork:
		if value != "none" && value != "user" {
			return fmt.Errorf("want none or user")
		}
		o.Network = value
		return nil
	case AnnotationForwards:
		return json.Unmarshal([]byte(value), &o.Forwards)
	case AnnotationTemplate:
		if value != "on" && value != "off" {
			return fmt.Errorf("want on or off")
		}
		on := value == "on"
		o.Template = &on
		return nil
	case AnnotationFollow:
		_, err := followed(value)
		return err
	}
	return o.Link.set(key, value)
}

func (l *Link) set(key, value string) error {
	switch key {
	case AnnotationQueues:
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > maxQueues {
			return fmt.Errorf("want a whole number of 1 to %d", maxQueues)
		}
		l.Queues = n
		return nil
	case AnnotationInbound:
		return rate(value, &l.Inbound)
	case AnnotationOutbound:
		return rate(value, &l.Outbound)
	}
	return fmt.Errorf("unknown annotation")
}

// Follow reads which mounts of a container are to be followed.
func Follow(annotations map[string]string) ([]string, error) {
	value, ok := annotations[AnnotationFollow]
	if !ok {
		return nil, nil
	}
	targets, err := followed(value)
	if err != nil {
		return nil, fmt.Errorf("annotation %s=%q: %w: %w", AnnotationFollow, value, err, errdefs.ErrInvalidArgument)
	}
	return targets, nil
}

func followed(value string) ([]string, error) {
	targets := strings.Split(value, ",")
	for i, t := range targets {
		targets[i] = path.Clean(strings.TrimSpace(t))
		if !path.IsAbs(targets[i]) {
			return nil, fmt.Errorf("want absolute paths in the container, separated by commas")
		}
	}
	return targets, nil
}

// rate reads bits for a second.
func rate(value string, to *uint64) error {
	number, factor := value, uint64(1)
	for suffix, f := range map[string]uint64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if cut, ok := strings.CutSuffix(value, suffix); ok {
			number, factor = cut, f
		}
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > maxRate/factor || n*factor < minRate {
		return fmt.Errorf("want bits for a second, 64k to 1000G, such as 10M")
	}
	*to = n * factor
	return nil
}

func positive(value string, to *int) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return fmt.Errorf("want a whole number above 0")
	}
	*to = n
	return nil
}
