package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/oci/flags"
)

// machine is what the flags say about the virtual machine.
type machine struct {
	cpus, memoryMiB int
	// cpuLimit bounds the container's CPU time where a part of a CPU was
	// asked for; 0 is no bound but the machine's size.
	cpuLimit float64
	network  string
	// noTemplate forbids to start as a clone.
	noTemplate bool
	forwards   []config.Forward
}

func (o *runOptions) machine(cfg config.Config) (machine, error) {
	m := machine{cpus: cfg.VM.CPUs, memoryMiB: cfg.VM.MemoryMiB, network: cmp.Or(o.network, cfg.Network.Mode), noTemplate: o.noTemplate}
	if err := m.setCPUs(o.cpus); err != nil {
		return m, err
	}
	if err := m.setMemory(o.memory); err != nil {
		return m, err
	}
	if m.network != "none" && m.network != "user" {
		return m, fmt.Errorf("--network %q: want none or user: %w", m.network, errdefs.ErrInvalidArgument)
	}
	if m.network == "none" && len(o.ports) > 0 {
		return m, fmt.Errorf("-p needs a network, and --network is none: %w", errdefs.ErrInvalidArgument)
	}
	var err error
	m.forwards, err = forwards(o.ports)
	return m, err
}

// setCPUs reads --cpus. A fraction gets the next whole number of CPUs and a
// bound on their time; 0 means no wish, as in Docker.
func (m *machine) setCPUs(flag string) error {
	if flag == "" {
		return nil
	}
	cpus, err := flags.ParseCPUs(flag)
	if err != nil {
		return fmt.Errorf("--cpus: %w", err)
	}
	if cpus > config.MaxCPUs {
		return fmt.Errorf("--cpus %s: a virtual machine has at most %d: %w", flag, config.MaxCPUs, errdefs.ErrInvalidArgument)
	}
	if cpus > 0 {
		m.cpus = int(math.Ceil(cpus))
	}
	if cpus != math.Trunc(cpus) {
		m.cpuLimit = cpus
	}
	return nil
}

func (m *machine) setMemory(flag string) error {
	if flag == "" {
		return nil
	}
	bytes, err := flags.ParseSize(flag)
	if err != nil {
		return fmt.Errorf("--memory: %w", err)
	}
	if bytes < config.MinMemoryMiB<<20 || bytes > config.MaxMemoryMiB<<20 {
		return fmt.Errorf("--memory %s: a virtual machine has %d MiB to %d GiB: %w", flag, config.MinMemoryMiB, config.MaxMemoryMiB>>10, errdefs.ErrInvalidArgument)
	}
	m.memoryMiB = int(bytes >> 20)
	return nil
}

// annotate writes what the sandbox process must know about the machine.
func annotate(spec *specs.Spec, m machine) error {
	if spec.Annotations == nil {
		spec.Annotations = map[string]string{}
	}
	spec.Annotations[config.AnnotationCPUs] = strconv.Itoa(m.cpus)
	spec.Annotations[config.AnnotationMemory] = strconv.Itoa(m.memoryMiB)
	spec.Annotations[config.AnnotationNetwork] = m.network
	if m.noTemplate {
		spec.Annotations[config.AnnotationTemplate] = "off"
	}
	if len(m.forwards) == 0 {
		return nil
	}
	list, err := json.Marshal(m.forwards)
	if err != nil {
		return fmt.Errorf("encode published ports: %w", err)
	}
	spec.Annotations[config.AnnotationForwards] = string(list)
	return nil
}
