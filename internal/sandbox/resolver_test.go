package sandbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestNamesResolver(t *testing.T) {
	for text, want := range map[string]bool{
		"search lan\nnameserver 127.0.0.11\noptions ndots:0\n": true,
		"nameserver\t127.0.0.11":                               true,
		"nameserver 10.0.0.1\n":                                false,
		"# nameserver 127.0.0.11\n":                            false,
		"nameserver 127.0.0.1\n":                               false,
		"nameserver\n":                                         false,
		"":                                                     false,
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := namesResolver(path); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if namesResolver("/no/such/file") {
		t.Error("a file that is not there names it")
	}
}

func TestResolverFile(t *testing.T) {
	mounts := func(source string) *specs.Spec {
		return &specs.Spec{Mounts: []specs.Mount{{Destination: "/etc/hosts", Source: "/h"}, {Destination: resolvConf, Source: source}}}
	}
	for source, want := range map[string]string{"/a/resolv.conf": "/a/resolv.conf", "r": "/bundle/r"} {
		if got := resolverFile("/bundle", mounts(source)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := resolverFile("/bundle", &specs.Spec{}); got != "" {
		t.Errorf("a file %q comes of nothing", got)
	}
}
