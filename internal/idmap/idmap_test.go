package idmap

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func parsed(t *testing.T, uids, gids string) Map {
	t.Helper()
	m, err := Parse(uids, gids)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOf(t *testing.T) {
	m, err := Of([]specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 5}, {ContainerID: 10, HostID: 7, Size: 1}}, []specs.LinuxIDMapping{{HostID: 2000, Size: 6}})
	if want := (Map{UIDs: "0:1000:5,10:7:1", GIDs: "0:2000:6"}); m != want || err != nil {
		t.Errorf("got %+v, %v", m, err)
	}
	if m, err := Of(nil, nil); !m.IsZero() || err != nil {
		t.Errorf("nothing gives %v, %v", m, err)
	}
	if _, err := Of(nil, []specs.LinuxIDMapping{{HostID: 2000, Size: 6}}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "users") {
		t.Errorf("groups alone give %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"0", "0:1", "0:1:2:3", "a:1:2", "0:1:0", "-1:0:5", "4294967290:0:10", "0:4294967290:10", "0:0:4294967296", "0:1:2,", ","} {
		if m, err := Parse(text, "0:0:1"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q gives %v, %v", text, m, err)
		}
	}
	// All ids that there are.
	parsed(t, "0:0:4294967295", "0:0:4294967295")
}

func TestOwner(t *testing.T) {
	m := parsed(t, "0:1000:10,10:5000:5", "0:2000:10")
	for _, tt := range [][4]uint32{{0, 0, 1000, 2000}, {9, 3, 1009, 2003}, {10, 10, 5000, Nobody}, {14, 9, 5004, 2009}, {15, 0, Nobody, 2000}, {1000, 2000, Nobody, Nobody}} {
		if uid, gid := m.Owner(tt[0], tt[1]); uid != tt[2] || gid != tt[3] {
			t.Errorf("%d:%d is shown as %d:%d, want %d:%d", tt[0], tt[1], uid, gid, tt[2], tt[3])
		}
	}
	if uid, gid := (Map{}).Owner(5, 6); uid != 5 || gid != 6 {
		t.Errorf("without a mapping it is %d:%d", uid, gid)
	}
	back := m.Back()
	if diff := cmp.Diff(Map{UIDs: "1000:0:10,5000:10:5", GIDs: "2000:0:10"}, back); diff != "" {
		t.Error(diff)
	}
	if !(Map{}).Back().IsZero() {
		t.Error("nothing turned round is something")
	}
}

// What is mapped there and back is what it was.
func FuzzOwner(f *testing.F) {
	f.Add("0:1000:10", uint32(5))
	f.Fuzz(func(t *testing.T, text string, id uint32) {
		m, err := Parse(text, text)
		if err != nil || m.IsZero() || strings.Contains(text, ",") {
			return
		}
		if to, _ := m.Owner(id, id); to != Nobody {
			if from, _ := m.Back().Owner(to, to); from != id {
				t.Errorf("%q maps %d to %d, and that to %d", text, id, to, from)
			}
		}
	})
}
