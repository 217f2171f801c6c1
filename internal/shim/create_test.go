package shim

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/sandbox"
)

// slowService builds sandboxes that fail, each when it is told to.
func slowService(building chan<- struct{}, fail <-chan error) *Service {
	return &Service{shutdown: func() {}, build: func(string) (*sandbox.Sandbox, error) {
		building <- struct{}{}
		return nil, <-fail
	}}
}

func TestCreateIsNotDoneTwiceAtATime(t *testing.T) {
	building, fail := make(chan struct{}, 9), make(chan error)
	s := slowService(building, fail)
	r := &task.CreateTaskRequest{ID: "c", Bundle: emptyBundle(t, "{}")}
	results := make(chan error, 2)
	create := func() {
		_, err := s.Create(t.Context(), r)
		results <- err
	}
	go create()
	await(t, building, "first build")
	go create()
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Create(late, r); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has gone gets %v", err)
	}
	if len(building) != 0 {
		t.Fatal("another sandbox is built while the first is")
	}
	// The second call goes on where the first has failed.
	first, second := errors.New("first"), errors.New("second")
	fail <- first
	if err := await(t, results, "first answer"); !errors.Is(err, first) {
		t.Errorf("the first call gives %v", err)
	}
	await(t, building, "second build")
	fail <- second
	if err := await(t, results, "second answer"); !errors.Is(err, second) {
		t.Errorf("the second call gives %v", err)
	}
}

// emptyBundle is a directory with a spec.
func emptyBundle(t *testing.T, spec string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A container of a pod never makes a sandbox of its own.
func TestCreateInAPodThatIsGone(t *testing.T) {
	s := slowService(nil, nil)
	bundle := emptyBundle(t, `{"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"pod"}}`)
	_, err := s.Create(t.Context(), &task.CreateTaskRequest{ID: "c", Bundle: bundle})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "sandbox pod") {
		t.Errorf("got %v", err)
	}
	if s.busy() {
		t.Error("the container that was not made is kept")
	}
}

func TestCreateOfWhatIsThere(t *testing.T) {
	s := &Service{shutdown: func() {}}
	r := &task.CreateTaskRequest{ID: "c", Bundle: "/b"}
	_, mine := s.beginCreation(r)
	s.endCreation("c", mine, &task.CreateTaskResponse{Pid: 7})
	// It was started, or has ended, since.
	if _, err := s.Create(t.Context(), r); !errdefs.IsAlreadyExists(err) {
		t.Errorf("got %v", err)
	}
	s.forget("c", "")
	if other, _ := s.beginCreation(r); other != nil {
		t.Error("a container that was deleted is still there")
	}
}
