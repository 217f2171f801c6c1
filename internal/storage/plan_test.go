package storage

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	agentapi "dougong.dev/dougong/api/agent/v1"
)

func tmpfs(size string) *agentapi.Writable {
	return &agentapi.Writable{Mount: &agentapi.Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=0755", "size=" + size}}}
}

type planTest struct {
	name    string
	request Request
	want    Plan
}

func planTests() []planTest {
	disk := func(i int) string { return "serial:" + Serial("c1", i) }
	return []planTest{
		{
			name:    "an EROFS image is a read-only disk below a writable layer in memory",
			request: Request{Rootfs: []Mount{{Type: "erofs", Source: "/img", Options: []string{"ro", "loop"}}}, WritableSize: "50%"},
			want: Plan{
				Disks: []Disk{{Serial: Serial("c1", 0), Path: "/img", ReadOnly: true}},
				Rootfs: &agentapi.Rootfs{
					Lowers:   []*agentapi.Mount{{Type: "erofs", Source: disk(0), Options: []string{"ro"}}},
					Writable: tmpfs("50%"),
				},
			},
		},
		{
			name:    "of several layers the last is topmost",
			request: Request{Rootfs: []Mount{{Type: "erofs", Source: "/base"}, {Type: "erofs", Source: "/top"}}, WritableSize: "1g"},
			want: Plan{
				Disks: []Disk{{Serial: Serial("c1", 1), Path: "/top", ReadOnly: true}, {Serial: Serial("c1", 0), Path: "/base", ReadOnly: true}},
				Rootfs: &agentapi.Rootfs{
					Lowers: []*agentapi.Mount{
						{Type: "erofs", Source: disk(1), Options: []string{"ro"}},
						{Type: "erofs", Source: disk(0), Options: []string{"ro"}},
					},
					Writable: tmpfs("1g"),
				},
			},
		},
		{
			name:    "an EROFS of several files is as many disks",
			request: Request{Rootfs: []Mount{{Type: "erofs", Source: "/meta", Options: []string{"ro", "loop", "device=/a", "device=/b"}}}, WritableSize: "1g"},
			want: Plan{
				Disks: []Disk{
					{Serial: Serial("c1", 0), Path: "/meta", ReadOnly: true},
					{Serial: Serial("c1", 1000), Path: "/a", ReadOnly: true},
					{Serial: Serial("c1", 1001), Path: "/b", ReadOnly: true},
				},
				Rootfs: &agentapi.Rootfs{
					Lowers:   []*agentapi.Mount{{Type: "erofs", Source: disk(0), Options: []string{"device=" + disk(1000), "device=" + disk(1001), "ro"}}},
					Writable: tmpfs("1g"),
				},
			},
		},
		{
			name:    "a writable block device is the root file system itself",
			request: Request{Rootfs: []Mount{{Type: "ext4", Source: "/dev/x", Options: []string{"rw", "discard"}}}},
			want: Plan{
				Disks:  []Disk{{Serial: Serial("c1", 0), Path: "/dev/x"}},
				Rootfs: &agentapi.Rootfs{Lowers: []*agentapi.Mount{{Type: "ext4", Source: disk(0), Options: []string{"discard"}}}},
			},
		},
		{
			name:    "a read-only directory is shared below a writable layer",
			request: Request{Rootfs: []Mount{{Type: "bind", Source: "/dir", Options: []string{"rbind", "ro"}}}, WritableSize: "50%"},
			want: Plan{
				Entries: []Entry{{Name: "c1/rootfs-0", Mount: Mount{Type: "bind", Source: "/dir", Options: []string{"rbind", "ro"}}, ReadOnly: true, ReadOnlyBelow: true, Recursive: true}},
				Rootfs: &agentapi.Rootfs{
					Lowers:   []*agentapi.Mount{{Type: "bind", Source: "/run/dougong/shared/c1/rootfs-0"}},
					Writable: tmpfs("50%"),
				},
			},
		},
		{
			name: "an overlay of the host is written to directly",
			request: Request{
				Rootfs: []Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/l", "upperdir=/u", "workdir=/w"}}},
				Binds:  []Bind{{Source: "/data", Recursive: true}, {Source: "/etc/x", ReadOnly: true}},
			},
			want: Plan{
				Entries: []Entry{
					{Name: "c1/rootfs-0", Mount: Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/l", "upperdir=/u", "workdir=/w"}}},
					{Name: "c1/bind-0", Mount: Mount{Type: "bind", Source: "/data"}, Recursive: true},
					{Name: "c1/bind-1", Mount: Mount{Type: "bind", Source: "/etc/x"}, ReadOnly: true},
				},
				Rootfs:      &agentapi.Rootfs{Lowers: []*agentapi.Mount{{Type: "bind", Source: "/run/dougong/shared/c1/rootfs-0"}}},
				BindSources: []string{"/run/dougong/shared/c1/bind-0", "/run/dougong/shared/c1/bind-1"},
			},
		},
	}
}

func TestPlan(t *testing.T) {
	for _, tt := range planTests() {
		t.Run(tt.name, func(t *testing.T) {
			tt.request.ContainerID = "c1"
			got, err := New(tt.request)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if got.NeedsShare() != (len(tt.want.Entries) > 0) {
				t.Errorf("NeedsShare() = %v", got.NeedsShare())
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	erofs := Mount{Type: "erofs", Source: "/img"}
	tests := []struct {
		name    string
		request Request
		is      func(error) bool
		says    string
	}{
		{"no root file system", Request{}, errdefs.IsInvalidArgument, "no root file system"},
		{"unknown type", Request{Rootfs: []Mount{{Type: "zfs", Source: "pool"}}}, errdefs.IsNotImplemented, `"zfs"`},
		{"writable among several", Request{Rootfs: []Mount{erofs, {Type: "ext4", Source: "/dev/x"}}}, errdefs.IsNotImplemented, "read-only"},
		{"relative bind", Request{Rootfs: []Mount{erofs}, Binds: []Bind{{Source: "data"}}}, errdefs.IsInvalidArgument, "absolute"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.request); !tt.is(err) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func TestSerialFitsTheDevice(t *testing.T) {
	seen := map[string]bool{}
	for _, id := range []string{"a", strings.Repeat("b", 76)} {
		for i := range 100 {
			s := Serial(id, i)
			if len(s) > 20 || seen[s] {
				t.Fatalf("serial %q of disk %d of %q: too long or taken", s, i, id)
			}
			seen[s] = true
		}
	}
}

func TestLasting(t *testing.T) {
	for _, test := range []struct {
		name string
		plan Plan
		want bool
	}{
		{"disks that are read-only", Plan{Disks: []Disk{{ReadOnly: true}}}, false},
		{"a disk that can be written to", Plan{Disks: []Disk{{ReadOnly: true}, {}}}, true},
		{"a share that is read-only", Plan{Entries: []Entry{{ReadOnly: true}}}, false},
		{"a share that can be written to", Plan{Entries: []Entry{{}}}, true},
		{"nothing", Plan{}, false},
	} {
		if got := test.plan.Lasting(); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

func TestUseSerials(t *testing.T) {
	p, err := New(Request{
		ContainerID: "c1", WritableSize: "1g",
		Rootfs:  []Mount{{Type: "erofs", Source: "/base", Options: []string{"device=/a"}}, {Type: "erofs", Source: "/top"}},
		Devices: []Device{{Path: "/dev/loop0"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.UseSerials(func(i int) string { return string(rune('p' + i)) })
	var serials []string
	for _, d := range p.Disks {
		serials = append(serials, d.Serial)
	}
	// The container's own device stays as it is.
	own := Serial("c1", deviceSerials)
	if diff := cmp.Diff([]string{"p", "q", "r", own}, serials); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{own}, p.DeviceSerials); diff != "" {
		t.Error(diff)
	}
	if bare := p.Bare(); len(p.Images()) != 3 || len(bare) != 1 || bare[0].Serial != own {
		t.Errorf("images %v, bare %v", p.Images(), bare)
	}
	want := &agentapi.Rootfs{
		Lowers: []*agentapi.Mount{
			{Type: "erofs", Source: "serial:p", Options: []string{"ro"}},
			{Type: "erofs", Source: "serial:q", Options: []string{"device=serial:r", "ro"}},
		},
		Writable: tmpfs("1g"),
	}
	if diff := cmp.Diff(want, p.Rootfs, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	// A share is no disk, whatever it is called.
	shared, err := New(Request{ContainerID: "c1", Rootfs: []Mount{{Type: "bind", Source: "/dir"}}})
	if err != nil {
		t.Fatal(err)
	}
	before := shared.Rootfs.Lowers[0].Source
	shared.UseSerials(func(int) string { return "x" })
	if shared.Rootfs.Lowers[0].Source != before {
		t.Errorf("a share became %q", shared.Rootfs.Lowers[0].Source)
	}
}

// TestUseSerialsOfWritableDisk is the writable layer of containerd's erofs
// snapshotter.
func TestUseSerialsOfWritableDisk(t *testing.T) {
	p := &Plan{
		Disks:  []Disk{{Serial: "old", Path: "/rw.img"}},
		Rootfs: &agentapi.Rootfs{Writable: &agentapi.Writable{Mount: &agentapi.Mount{Type: "ext4", Source: "serial:old"}}},
	}
	p.UseSerials(func(int) string { return "new" })
	if got := p.Rootfs.Writable.Mount.Source; got != "serial:new" {
		t.Errorf("the writable layer is on %s", got)
	}
}
