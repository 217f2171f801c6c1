package mount

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
)

// inNamespace runs a test where its mounts harm nobody, on a thread that is
// thrown away.
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

type fakeDisks map[string]string

// Await tries as often as the fake has disks, and once more.
func (f fakeDisks) Await(_ context.Context, try func() (bool, error)) error {
	for range len(f) + 1 {
		if ok, err := try(); ok || err != nil {
			return err
		}
	}
	return errors.New("never came")
}

func (f fakeDisks) Disk(_ context.Context, serial string) (string, error) {
	if node := f[serial]; node != "" {
		return node, nil
	}
	return "", errdefs.ErrNotFound
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		in   []string
		want options
	}{
		"none":        {nil, options{}},
		"flags":       {[]string{"ro", "nosuid"}, options{flags: unix.MS_RDONLY | unix.MS_NOSUID}},
		"last wins":   {[]string{"ro", "rw"}, options{}},
		"data":        {[]string{"size=1m", "noatime", "mode=755"}, options{flags: unix.MS_NOATIME, data: "size=1m,mode=755"}},
		"propagation": {[]string{"rbind", "rslave"}, options{flags: unix.MS_BIND | unix.MS_REC, propagation: unix.MS_SLAVE | unix.MS_REC}},
	} {
		if diff := cmp.Diff(c.want, parse(c.in), cmp.AllowUnexported(options{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestMountAll(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		dir := t.TempDir()
		a, b, file := filepath.Join(dir, "a/deep"), filepath.Join(dir, "b"), filepath.Join(dir, "file")
		m := New(fakeDisks{"disk": "tmpfs"})
		err := m.All(t.Context(), []*agent.Mount{
			{Type: "tmpfs", Source: "serial:disk", Target: a, Options: []string{"size=64k", "mode=700"}},
			{Type: "bind", Source: a, Target: b, Options: []string{"ro"}},
			{Type: "bind", Source: "/etc/hosts", Target: file},
		})
		if err != nil {
			t.Error(err)
			return
		}
		if err := os.WriteFile(filepath.Join(a, "x"), []byte("x"), 0o644); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(b, "x"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("write through a read-only bind: %v", err)
		}
		for _, target := range []string{file, b, a} {
			if err := Unmount(target); err != nil {
				t.Error(err)
			}
			if err := Unmount(target); !errdefs.IsNotFound(err) {
				t.Errorf("second unmount: %v", err)
			}
		}
	})
}

func TestMountAllUndone(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		dir := t.TempDir()
		target := filepath.Join(dir, "a")
		for name, bad := range map[string]*agent.Mount{
			"file system": {Type: "nosuchfs", Source: "x", Target: filepath.Join(dir, "b")},
			"disk":        {Type: "ext4", Source: "serial:none", Target: filepath.Join(dir, "b")},
			"target":      {Type: "tmpfs", Source: "x", Target: "relative"},
			"escape":      {Type: "tmpfs", Source: "x", Target: dir + "/../c"},
			"source":      {Type: "bind", Source: filepath.Join(dir, "none"), Target: filepath.Join(dir, "b")},
		} {
			err := New(fakeDisks{}).All(t.Context(), []*agent.Mount{{Type: "tmpfs", Source: "x", Target: target}, bad})
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			if err := Unmount(target); !errdefs.IsNotFound(err) {
				t.Errorf("%s: the first mount is still there: %v", name, err)
			}
		}
	})
}

// A mount in use goes out of sight.
func TestUnmountBusy(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "a")
		if err := New(nil).One(t.Context(), &agent.Mount{Type: "tmpfs", Source: "x", Target: target}); err != nil {
			t.Error(err)
			return
		}
		f, err := os.Create(filepath.Join(target, "open"))
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = f.Close() }()
		if err := Unmount(target); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(target, "open")); !os.IsNotExist(err) {
			t.Errorf("still in sight: %v", err)
		}
	})
}

// A file system of several disks names the others in its options.
func TestPartsAreFound(t *testing.T) {
	m := New(fakeDisks{"a": "/dev/a", "b": "/dev/b"})
	one := &agent.Mount{Type: "erofs", Source: "serial:a", Options: []string{"device=serial:b", "ro", "device=/dev/c"}}
	got, err := m.parts(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"device=/dev/b", "ro", "device=/dev/c"}, got.Options); diff != "" {
		t.Error(diff)
	}
	if one.Options[0] != "device=serial:b" {
		t.Error("the request was changed")
	}
	if _, err := m.parts(t.Context(), &agent.Mount{Options: []string{"device=serial:x"}}); !errdefs.IsNotFound(err) {
		t.Errorf("a disk that is not there: %v", err)
	}
}
