package oci

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What is mapped is mapped where the files come from; crun in the guest knows
// nothing of it.
func TestGuestMountOwners(t *testing.T) {
	users, groups := []specs.LinuxIDMapping{{HostID: 1000, Size: 10}}, []specs.LinuxIDMapping{{HostID: 2000, Size: 20}}
	own := []specs.LinuxIDMapping{{HostID: 5000, Size: 30}}
	plan := guestOf(t, func(s *specs.Spec) {
		s.Linux.UIDMappings, s.Linux.GIDMappings = own, own
		s.Mounts = []specs.Mount{
			{Destination: "/a", Type: "bind", Source: "/a", Options: []string{"rbind"}, UIDMappings: users, GIDMappings: groups},
			{Destination: "/b", Type: "bind", Source: "/b", Options: []string{"rbind", "ridmap"}, UIDMappings: users, GIDMappings: groups},
			{Destination: "/c", Type: "bind", Source: "/c", Options: []string{"rbind", "idmap", "ro"}},
			{Destination: "/d", Type: "bind", Source: "/d", Options: []string{"rbind"}},
		}
	})
	want := []Owners{{UIDs: users, GIDs: groups}, {UIDs: users, GIDs: groups, Below: true}, {UIDs: own, GIDs: own}, {}}
	for i, b := range plan.Binds {
		if diff := cmp.Diff(want[i], b.Owners); diff != "" {
			t.Errorf("%s: %s", b.Destination, diff)
		}
		m := plan.Spec.Mounts[b.Index]
		if m.UIDMappings != nil || m.GIDMappings != nil || slices.ContainsFunc(m.Options, isMapOption) || slices.ContainsFunc(b.Options, isMapOption) {
			t.Errorf("in the guest it is %+v", m)
		}
	}
	guestRefuses(t, "mounts[0].uidMappings", func(s *specs.Spec) {
		s.Mounts = []specs.Mount{{Destination: "/m", Type: "tmpfs", UIDMappings: users, GIDMappings: groups}}
	})
	for _, m := range []specs.Mount{{UIDMappings: users}, {Options: []string{"idmap"}}, {GIDMappings: groups, Options: []string{"ridmap"}}} {
		s := baseSpec()
		m.Destination, m.Type, m.Source = "/m", "bind", "/m"
		s.Mounts = []specs.Mount{m}
		if _, err := Guest(s, GuestOptions{ID: "c"}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), `mounts[0]: to map the owners of "/m"`) {
			t.Errorf("%+v gives %v", m, err)
		}
	}
}

// A sysfs that belongs to the machine's network is for reading only, else crun does
// not fall back to it.
func TestGuestSysfsOfUsers(t *testing.T) {
	for _, tt := range []struct {
		users, own bool
		want       []string
	}{{true, false, []string{"nosuid", "ro"}}, {true, true, []string{"nosuid", "rw"}}, {false, false, []string{"nosuid", "rw"}}} {
		s := baseSpec()
		s.Mounts = []specs.Mount{{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "rw"}}}
		if tt.users {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}
		plan, err := Guest(s, GuestOptions{ID: "c", OwnNetwork: tt.own})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, plan.Spec.Mounts[0].Options); diff != "" {
			t.Errorf("%+v: %s", tt, diff)
		}
	}
}
