package storage

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	agentapi "dougong.dev/dougong/api/agent/v1"
)

func layer(n string) Mount {
	return Mount{Type: "erofs", Source: "/snapshots/" + n + "/layer.erofs", Options: []string{"ro", "loop"}}
}

func overlay(options ...string) Mount {
	return Mount{Type: "format/mkdir/overlay", Source: "overlay", Options: options}
}

// erofs is how the guest mounts the i-th disk.
func erofs(i int) *agentapi.Mount {
	return &agentapi.Mount{Type: "erofs", Source: "serial:" + Serial("c1", i), Options: []string{"ro"}}
}

func TestReferringPlans(t *testing.T) {
	tests := map[string]struct {
		rootfs  []Mount
		want    *agentapi.Rootfs
		disks   []Disk
		entries []Entry
	}{
		"directory of the host": {
			rootfs: []Mount{layer("2"), layer("1"), overlay("workdir=/snapshots/3/work", "upperdir=/snapshots/3/fs", "lowerdir={{ overlay 0 1 }}", "index=off")},
			want: &agentapi.Rootfs{
				Lowers: []*agentapi.Mount{erofs(0), erofs(1)},
				Writable: &agentapi.Writable{
					Mount: &agentapi.Mount{Type: "bind", Source: GuestShare + "/c1/writable"},
					Upper: "fs", Work: "work", Options: []string{"userxattr"},
				},
			},
			disks: []Disk{
				{Serial: Serial("c1", 0), Path: "/snapshots/2/layer.erofs", ReadOnly: true},
				{Serial: Serial("c1", 1), Path: "/snapshots/1/layer.erofs", ReadOnly: true},
			},
			entries: []Entry{{Name: "c1/writable", Mount: Mount{Type: "bind", Source: "/snapshots/3"}}},
		},
		"image of a bounded size": {
			rootfs: []Mount{
				{Type: "ext4", Source: "/snapshots/2/rwlayer.img", Options: []string{"rw", "loop", "X-containerd.mkfs.fs=ext4"}},
				layer("1"),
				overlay("X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "workdir={{ mount 0 }}/work", "upperdir={{ mount 0 }}/upper", "lowerdir={{ mount 1 }}"),
			},
			want: &agentapi.Rootfs{
				Lowers: []*agentapi.Mount{erofs(1)},
				Writable: &agentapi.Writable{
					Mount: &agentapi.Mount{Type: "ext4", Source: "serial:" + Serial("c1", 0)}, Upper: "upper", Work: "work",
				},
			},
			disks: []Disk{
				{Serial: Serial("c1", 1), Path: "/snapshots/1/layer.erofs", ReadOnly: true},
				{Serial: Serial("c1", 0), Path: "/snapshots/2/rwlayer.img"},
			},
		},
		"view of one layer": {
			rootfs: []Mount{layer("1"), {Type: "format/bind", Source: "{{ mount 0 }}", Options: []string{"ro", "rbind"}}},
			want: &agentapi.Rootfs{
				Lowers:   []*agentapi.Mount{erofs(0)},
				Writable: Request{WritableSize: "50%"}.memory(),
			},
			disks: []Disk{{Serial: Serial("c1", 0), Path: "/snapshots/1/layer.erofs", ReadOnly: true}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := New(Request{ContainerID: "c1", Rootfs: tt.rootfs, WritableSize: "50%"})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, p.Rootfs, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.disks, p.Disks); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.entries, p.Entries); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReferringRefusals(t *testing.T) {
	host := []string{"upperdir=/s/3/fs", "workdir=/s/3/work"}
	tests := map[string][]Mount{
		"no lower":           {layer("1"), overlay(host...)},
		"lower beyond":       {layer("1"), overlay(append(host, "lowerdir={{ overlay 0 1 }}")...)},
		"huge reference":     {layer("1"), overlay(append(host, "lowerdir={{ mount 99999999999999999999 }}")...)},
		"writes elsewhere":   {layer("1"), overlay("upperdir=/a/fs", "workdir=/b/work", "lowerdir={{ mount 0 }}")},
		"writes to the root": {layer("1"), overlay("upperdir=/fs", "workdir=/work", "lowerdir={{ mount 0 }}")},
		"relative upper":     {layer("1"), overlay("upperdir=s/fs", "workdir=s/work", "lowerdir={{ mount 0 }}")},
		"unknown option":     {layer("1"), overlay(append(host, "lowerdir={{ mount 0 }}", "uidmap=0:1:2")...)},
		"lower of a kind":    {{Type: "bind", Source: "/x"}, overlay(append(host, "lowerdir={{ mount 0 }}")...)},
		"writable bind":      {layer("1"), {Type: "format/bind", Source: "{{ mount 0 }}", Options: []string{"rbind"}}},
		"unknown transform":  {layer("1"), {Type: "format/mkfs/ext4", Source: "{{ mount 0 }}"}},
	}
	for name, rootfs := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(Request{ContainerID: "c1", Rootfs: rootfs})
			if !errdefs.IsNotImplemented(err) && !errdefs.IsInvalidArgument(err) {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{"{{ mount 0 }}/upper", "{{ overlay 0 2 }}", "{{mount 1}}", "{{ overlay 3 }}", "/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, below, err := parseReference(s, 3)
		if err == nil && (first < 0 || first > 2 || last < 0 || last > 2 || below != "" && !strings.HasPrefix(below, "/")) {
			t.Errorf("%q refers to %d, %d, %q", s, first, last, below)
		}
	})
}
