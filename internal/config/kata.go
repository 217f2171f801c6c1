package config

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// kataPrefix begins the annotations by which callers of Kata Containers shape a
// sandbox.
const kataPrefix = "io.katacontainers.config.hypervisor."

// kataNames are the annotations of Kata Containers that have a namesake here,
// and what becomes of their values. An empty value says nothing.
var kataNames = map[string]struct {
	name  string
	value func(string) (string, error)
}{
	"default_vcpus":            {AnnotationCPUs, kataCPUs},
	"default_memory":           {AnnotationMemory, same},
	"enable_template":          {AnnotationTemplate, kataSwitch},
	"rx_rate_limiter_max_rate": {AnnotationInbound, kataRate},
	"tx_rate_limiter_max_rate": {AnnotationOutbound, kataRate},
}

// FromKata returns the configuration and the annotations of a sandbox whose
// caller may use Kata Containers' names (runtime.kata_annotations). What is said
// under our own name goes before. Annotations that mean nothing here are left
// out; malformed ones are errdefs.ErrInvalidArgument.
func (c Config) FromKata(annotations map[string]string) (Config, map[string]string, error) {
	if !c.Runtime.KataAnnotations {
		return c, annotations, nil
	}
	out := maps.Clone(annotations)
	for key, value := range annotations {
		name, ok := strings.CutPrefix(key, kataPrefix)
		if !ok {
			continue
		}
		if err := c.adopt(out, name, value); err != nil {
			return c, nil, fmt.Errorf("annotation %s=%q: %w: %w", key, value, err, errdefs.ErrInvalidArgument)
		}
	}
	return c, out, nil
}

// adopt takes one annotation into the configuration or the annotations.
func (c *Config) adopt(annotations map[string]string, name, value string) error {
	switch name {
	case "kernel_params":
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return fmt.Errorf("want printable characters")
		}
		c.VM.KernelParameters = strings.TrimSpace(c.VM.KernelParameters + " " + value)
		return nil
	case "virtio_fs_cache":
		cache, ok := map[string]string{"auto": "auto", "always": "always", "never": "none", "none": "none"}[value]
		if !ok {
			return fmt.Errorf("want auto, always or never")
		}
		c.Share.Cache = cache
		return nil
	}
	ours, known := kataNames[name]
	if !known {
		return nil
	}
	translated, err := ours.value(value)
	if err != nil {
		return err
	}
	if _, said := annotations[ours.name]; !said && translated != "" {
		annotations[ours.name] = translated
	}
	return nil
}

func same(value string) (string, error) { return value, nil }

// kataCPUs rounds up: a virtual machine has whole CPUs.
func kataCPUs(value string) (string, error) {
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || !(n > 0 && n <= math.MaxInt16) {
		return "", fmt.Errorf("want a number above 0")
	}
	return strconv.Itoa(int(math.Ceil(n))), nil
}

func kataSwitch(value string) (string, error) {
	on, err := strconv.ParseBool(value)
	switch {
	case err != nil:
		return "", fmt.Errorf("want true or false")
	case on:
		return "on", nil
	}
	return "off", nil
}

// kataRate takes 0 for no bound.
func kataRate(value string) (string, error) {
	if value == "0" {
		return "", nil
	}
	return value, nil
}
