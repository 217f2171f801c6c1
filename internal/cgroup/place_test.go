package cgroup

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		path, parent string
		want         Place
		plain        string
	}{
		"containerd's":         {"/default/demo", "/dougong", Place{Path: "/default/demo"}, "/default/demo"},
		"kubelet's":            {"/kubepods/burstable/pod1/abc", "/dougong", Place{Path: "/kubepods/burstable/pod1/abc"}, "/kubepods/burstable/pod1/abc"},
		"nothing":              {"", "/dougong", Place{Path: "/dougong/id"}, "/dougong/id"},
		"nothing, no parent":   {"", "", Place{}, ""},
		"relative":             {"a/b", "/dougong", Place{Path: "/dougong/a/b"}, "/dougong/a/b"},
		"relative, no parent":  {"a", "", Place{Path: "/a"}, "/a"},
		"dots go nowhere":      {"../../a", "/dougong", Place{Path: "/dougong/a"}, "/dougong/a"},
		"systemd's":            {"machine.slice:libpod:abc", "", Place{Slice: "machine.slice", Prefix: "libpod", Name: "abc"}, "/machine.slice/libpod-abc.scope"},
		"kubelet's by systemd": {"kubepods-burstable-pod1.slice:cri-containerd:abc", "", Place{Slice: "kubepods-burstable-pod1.slice", Prefix: "cri-containerd", Name: "abc"}, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope"},
		"no slice":             {":docker:abc", "", Place{Slice: "system.slice", Prefix: "docker", Name: "abc"}, "/system.slice/docker-abc.scope"},
		"no prefix":            {"a.slice::abc", "", Place{Slice: "a.slice", Name: "abc"}, "/a.slice/abc.scope"},
	} {
		got, err := Parse(c.path, c.parent, "id")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if plain := got.plain().Path; plain != c.plain {
			t.Errorf("%s: without systemd it is %q, want %q", name, plain, c.plain)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, path := range []string{"/", "..", "a:b", "a:b:c:d", "a.slice:b:", "a/b.slice:c:d", "noslice:a:b", "a--b.slice:c:d", "a\x00b"} {
		if got, err := Parse(path, "", "id"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q gives %+v, %v", path, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("/default/demo", "/dougong")
	f.Add("machine.slice:libpod:abc", "")
	f.Fuzz(func(t *testing.T, path, parent string) {
		place, err := Parse(path, parent, "id")
		if err != nil || place.IsNone() {
			return
		}
		if p := place.plain().Path; p == "/" || p == "" || p[0] != '/' {
			t.Errorf("%q below %q leads to %q", path, parent, p)
		}
	})
}
