package config

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestFromKata(t *testing.T) {
	c := Default()
	given := map[string]string{
		kataPrefix + "default_vcpus": "1.5", kataPrefix + "default_memory": "768", kataPrefix + "kernel_params": "a=b c",
		kataPrefix + "virtio_fs_cache": "never", kataPrefix + "rx_rate_limiter_max_rate": "1000000", kataPrefix + "tx_rate_limiter_max_rate": "0",
		kataPrefix + "enable_template": "false", kataPrefix + "machine_type": "q35", "other": "stays",
	}
	// Without the switch these names mean nothing.
	same, annotations, err := c.FromKata(given)
	if diff := cmp.Diff(c, same); diff != "" || len(annotations) != len(given) || err != nil {
		t.Errorf("without the switch: %s, %v, %v", diff, annotations, err)
	}
	c.Runtime.KataAnnotations, c.VM.KernelParameters = true, "x"
	got, annotations, err := c.FromKata(given)
	if err != nil {
		t.Fatal(err)
	}
	if got.VM.KernelParameters != "x a=b c" || got.Share.Cache != "none" || annotations["other"] != "stays" {
		t.Errorf("got %+v, %+v, %v", got.VM, got.Share, annotations)
	}
	over, err := ParseAnnotations(annotations)
	if err != nil {
		t.Fatal(err)
	}
	if over.CPUs != 2 || over.MemoryMiB != 768 || over.Link.Inbound != 1_000_000 || over.Link.Outbound != 0 || over.Template == nil || *over.Template {
		t.Errorf("got %+v", over)
	}
	if len(given) != 9 || c.Share.Cache != "auto" {
		t.Errorf("the caller's annotations or configuration were changed: %v", given)
	}
}

func TestFromKataLeavesOurOwnNamesAlone(t *testing.T) {
	c := Default()
	c.Runtime.KataAnnotations = true
	_, annotations, err := c.FromKata(map[string]string{kataPrefix + "default_vcpus": "4", AnnotationCPUs: "2"})
	if err != nil || annotations[AnnotationCPUs] != "2" {
		t.Errorf("got %v, %v", annotations, err)
	}
}

func TestFromKataErrors(t *testing.T) {
	c := Default()
	c.Runtime.KataAnnotations = true
	for name, value := range map[string]string{
		"default_vcpus": "none", "kernel_params": "a\nb", "virtio_fs_cache": "metadata", "enable_template": "perhaps",
	} {
		if _, _, err := c.FromKata(map[string]string{kataPrefix + name: value}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s=%q gives %v", name, value, err)
		}
	}
	for _, value := range []string{"0", "-1", "NaN", "1e9"} {
		if _, _, err := c.FromKata(map[string]string{kataPrefix + "default_vcpus": value}); err == nil {
			t.Errorf("%q CPUs are none", value)
		}
	}
	// These are found when our own names are read.
	_, annotations, err := c.FromKata(map[string]string{kataPrefix + "default_memory": "much"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseAnnotations(annotations); !errdefs.IsInvalidArgument(err) {
		t.Errorf("memory of %v gives %v", annotations, err)
	}
}
