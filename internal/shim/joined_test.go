package shim

import (
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"

	"dougong.dev/dougong/internal/oci"
)

// TestStanding: who runs the OCI commands has decided whose sandbox a container
// is in; under a daemon its annotations say it.
func TestStanding(t *testing.T) {
	for name, tt := range map[string]struct {
		owner, id string
		role      oci.Role
		want      oci.Role
	}{
		"under a daemon":          {"", "c", oci.PodContainer, oci.PodContainer},
		"alone":                   {"c", "c", oci.Single, oci.Single},
		"the pause container":     {"c", "c", oci.PodSandbox, oci.PodSandbox},
		"in a pod without infra":  {"c", "c", oci.PodContainer, oci.Single},
		"joined":                  {"c", "d", oci.Single, oci.PodContainer},
		"joined by annotations":   {"c", "d", oci.PodContainer, oci.PodContainer},
		"joined, whatever it was": {"c", "d", oci.PodSandbox, oci.PodContainer},
	} {
		if got := (&Service{owner: tt.owner}).standing(tt.id, tt.role); got != tt.want {
			t.Errorf("%s: role %d, want %d", name, got, tt.want)
		}
	}
}

// TestShutdownOfWhoHasJoined leaves the others alone.
func TestShutdownOfWhoHasJoined(t *testing.T) {
	ended := 0
	s := &Service{owner: "c", shutdown: func() { ended++ }}
	for i, id := range []string{"d", "c"} {
		if _, err := s.Shutdown(t.Context(), &task.ShutdownRequest{ID: id, Now: true}); err != nil || ended != i {
			t.Errorf("the end of %s ends %d sandboxes, %v", id, ended, err)
		}
	}
}
