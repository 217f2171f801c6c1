package config

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// FuzzParse wants no panic, an errdefs class for every refusal, and only
// valid configurations.
func FuzzParse(f *testing.F) {
	f.Add([]byte(Example()))
	f.Add([]byte(uncomment(Example())))
	f.Add([]byte("[vm]\ncpu = 3\n"))
	f.Add([]byte("vm.cpus = 1e9"))
	f.Add([]byte("[vm\n"))
	f.Add([]byte("[[vm]]\ncpus = 1\n"))
	f.Add([]byte("network = { mode = \"none\", dns = [] }\nvm = 3\n\"\" = 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz", data)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("error %v has no class", err)
			}
			return
		}
		if err := c.validate(); err != nil {
			t.Errorf("an invalid configuration was accepted: %v", err)
		}
	})
}

// FuzzParseAnnotations wants no panic, an errdefs class for every refusal, no
// number below 1, and nobody else's annotations looked at.
func FuzzParseAnnotations(f *testing.F) {
	for _, a := range Annotations() {
		f.Add(a.Name, "1")
		f.Add(a.Name, "none")
		f.Add(a.Name, `[{"protocol":"tcp","hostPort":8080,"guestPort":80}]`)
	}
	f.Add("io.kubernetes.cri.sandbox-id", "x")
	f.Add(AnnotationPrefix, "")
	f.Fuzz(func(t *testing.T, key, value string) {
		o, err := ParseAnnotations(map[string]string{key: value})
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("error %v has no class", err)
			}
			if !strings.HasPrefix(key, AnnotationPrefix) {
				t.Errorf("%q is not ours and gives %v", key, err)
			}
			return
		}
		if o.CPUs < 0 || o.MemoryMiB < 0 || key == AnnotationCPUs && o.CPUs < 1 || key == AnnotationMemory && o.MemoryMiB < 1 {
			t.Errorf("%s=%q gives %+v", key, value, o)
		}
	})
}
