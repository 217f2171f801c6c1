package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/guest/mount"
)

func inNamespace(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			t.Error(err)
			return
		}
		test(t)
	}()
	<-done
}

// image is a directory that a share would show.
func image(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	for _, d := range []string{"etc", "bin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Error(err)
		}
	}
	for file, content := range map[string]string{"etc/passwd": "web:x:33:34::/srv:/bin/sh\n", "name": name} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			t.Error(err)
		}
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Error(err)
	}
	return dir
}

func request(t *testing.T, lowers ...string) *agent.CreateBundleRequest {
	t.Helper()
	spec, err := json.Marshal(specs.Spec{
		Version: "1.0.2", Root: &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: []string{"true"}, Cwd: "/", User: specs.User{Username: "web"}},
		Mounts:  []specs.Mount{{Destination: "/etc/hosts", Type: "bind", Source: "/elsewhere/hosts"}},
	})
	if err != nil {
		t.Error(err)
	}
	r := &agent.CreateBundleRequest{
		Id: "c1", Spec: spec,
		Rootfs: &agent.Rootfs{Writable: &agent.Writable{
			Mount: &agent.Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m"}},
		}},
		Files: []*agent.File{{Name: "hosts", Content: []byte("127.0.0.1 localhost\n"), Mode: 0o664}},
	}
	for _, l := range lowers {
		r.Rootfs.Lowers = append(r.Rootfs.Lowers, &agent.Mount{Type: "bind", Source: l, Options: []string{"ro"}})
	}
	return r
}

func readSpec(t *testing.T, bundle string) specs.Spec {
	t.Helper()
	var spec specs.Spec
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err == nil {
		err = json.Unmarshal(data, &spec)
	}
	if err != nil {
		t.Error(err)
	}
	return spec
}

func TestOverlay(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		dir := t.TempDir()
		s := NewStore(dir, mount.New(nil))
		path, err := s.Create(t.Context(), request(t, image(t, "top"), image(t, "bottom")))
		if err != nil {
			t.Error(err)
			return
		}
		root := filepath.Join(path, "rootfs")
		if data, err := os.ReadFile(filepath.Join(root, "name")); string(data) != "top" || err != nil {
			t.Errorf("the topmost layer does not win: %q, %v", data, err)
		}
		if err := os.WriteFile(filepath.Join(root, "new"), []byte("x"), 0o644); err != nil {
			t.Errorf("not writable: %v", err)
		}
		if info, err := os.Stat(root); err != nil || info.Mode().Perm() != 0o750 {
			t.Errorf("root directory does not look like the image's: %v, %v", info, err)
		}
		want := specs.Spec{
			Version: "1.0.2", Root: &specs.Root{Path: "rootfs"},
			Process: &specs.Process{
				Args: []string{"true"}, Cwd: "/", Env: []string{"HOME=/srv"},
				User: specs.User{UID: 33, GID: 34, AdditionalGids: []uint32{34}},
			},
			Mounts: []specs.Mount{{Destination: "/etc/hosts", Type: "bind", Source: "/elsewhere/hosts"}},
		}
		if diff := cmp.Diff(want, readSpec(t, path)); diff != "" {
			t.Error(diff)
		}
		if info, err := os.Stat(filepath.Join(path, "files/hosts")); err != nil || info.Mode().Perm() != 0o664 {
			t.Errorf("file: %v, %v", info, err)
		}
		if _, err := s.Create(t.Context(), request(t, dir)); !errdefs.IsAlreadyExists(err) {
			t.Errorf("second bundle of one id: %v", err)
		}
		if err := s.Clear(); err != nil {
			t.Error(err)
		}
		clean(t, dir)
		if err := s.Delete("c1"); err != nil {
			t.Errorf("second delete: %v", err)
		}
	})
}

func TestSingleRoot(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		s := NewStore(t.TempDir(), mount.New(nil))
		source := image(t, "share")
		r := request(t, source)
		r.Rootfs.Writable = nil
		r.Rootfs.Lowers[0].Options = nil
		path, err := s.Create(t.Context(), r)
		if err != nil {
			t.Error(err)
			return
		}
		if err := os.WriteFile(filepath.Join(path, "rootfs/new"), nil, 0o644); err != nil {
			t.Error(err)
		}
		if err := s.Delete("c1"); err != nil {
			t.Error(err)
		}
		for _, file := range []string{"new", "name"} {
			if _, err := os.Stat(filepath.Join(source, file)); err != nil {
				t.Errorf("delete went through to the share: %v", err)
			}
		}
	})
}

// Whatever step fails, nothing stays.
func TestCreateUndone(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		dir := t.TempDir()
		s := NewStore(dir, mount.New(nil))
		for name, spoil := range map[string]func(*agent.CreateBundleRequest){
			"id":          func(r *agent.CreateBundleRequest) { r.Id = "../x" },
			"json":        func(r *agent.CreateBundleRequest) { r.Spec = []byte("{") },
			"no command":  func(r *agent.CreateBundleRequest) { r.Spec = []byte("{}") },
			"no root":     func(r *agent.CreateBundleRequest) { r.Rootfs = nil },
			"lower":       func(r *agent.CreateBundleRequest) { r.Rootfs.Lowers[1].Source = "/nonexistent" },
			"writable":    func(r *agent.CreateBundleRequest) { r.Rootfs.Writable.Mount.Type = "nosuchfs" },
			"no mount":    func(r *agent.CreateBundleRequest) { r.Rootfs.Writable.Mount = nil },
			"many lowers": func(r *agent.CreateBundleRequest) { r.Rootfs.Writable = nil },
			"file name":   func(r *agent.CreateBundleRequest) { r.Files[0].Name = "../x" },
			"no process":  func(r *agent.CreateBundleRequest) { r.Spec = []byte(`{"process":[]}`) },
			"user": func(r *agent.CreateBundleRequest) {
				r.Spec = []byte(strings.Replace(string(r.Spec), `"web"`, `"nobody"`, 1))
			},
		} {
			r := request(t, image(t, "a"), image(t, "b"))
			spoil(r)
			if _, err := s.Create(t.Context(), r); err == nil {
				t.Errorf("%s: no error", name)
			}
			clean(t, dir)
		}
		if _, err := s.Create(t.Context(), request(t, image(t, "a"))); err != nil {
			t.Errorf("after all that: %v", err)
		}
	})
}

func clean(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	mounts, err := os.ReadFile("/proc/thread-self/mounts")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("mounts left below %s: %v\n%s", dir, err, mounts)
	}
}
