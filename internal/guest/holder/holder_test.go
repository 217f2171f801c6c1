package holder

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	api "dougong.dev/dougong/api/agent/v1"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == Arg {
		Run()
	}
	os.Exit(m.Run())
}

func namespace(t *testing.T, pid int, kind string) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestHold(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces are root's")
	}
	ids := []*api.IDMapping{{ContainerId: 0, GuestId: 1000, Size: 10}}
	tests := map[string]struct {
		request *api.HoldNamespacesRequest
		own     []string
		shared  []string
	}{
		"of processes": {&api.HoldNamespacesRequest{}, []string{"pid"}, []string{"ipc", "uts", "user", "mnt", "net"}},
		"of users":     {&api.HoldNamespacesRequest{Uids: ids, Gids: ids}, []string{"pid", "ipc", "uts", "user"}, []string{"mnt", "net"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := Holder{Binary: "/proc/self/exe"}
			pid, err := h.Hold(tt.request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = unix.Kill(pid, unix.SIGKILL)
				_, _ = unix.Wait4(pid, nil, 0, nil)
			}()
			if again, err := h.Hold(tt.request); again != pid || err != nil {
				t.Errorf("a second time: process %d, %v, want %d", again, err, pid)
			}
			for _, kind := range tt.own {
				if namespace(t, pid, kind) == namespace(t, os.Getpid(), kind) {
					t.Errorf("the %s namespace is the agent's", kind)
				}
			}
			for _, kind := range tt.shared {
				if namespace(t, pid, kind) != namespace(t, os.Getpid(), kind) {
					t.Errorf("the %s namespace is not the agent's", kind)
				}
			}
			if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid)); len(tt.request.Uids) > 0 && string(data) != fmt.Sprintf("%10d %10d %10d\n", 0, 1000, 10) {
				t.Errorf("ids are mapped as %q, %v", data, err)
			}
		})
	}
}
