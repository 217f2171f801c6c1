package config

import (
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
