package critest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// kubelet keeps volumes as the kubelet does.
type kubelet struct {
	t    *testing.T
	root string
}

func newKubelet(t *testing.T, c *client) *kubelet {
	return &kubelet{t: t, root: filepath.Join(c.dir, "kubelet")}
}

// volume makes the directory of a volume of a pod.
func (k *kubelet) volume(pod, plugin, name string) string {
	k.t.Helper()
	dir := filepath.Join(k.root, "pods", pod, "volumes", "kubernetes.io~"+plugin, name)
	k.check(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o777))
	return dir
}

func (k *kubelet) check(errs ...error) {
	k.t.Helper()
	if err := errors.Join(errs...); err != nil {
		k.t.Fatal(err)
	}
}

// mount mounts a file system for the time of the test.
func (k *kubelet) mount(fstype, dir, options string) {
	k.t.Helper()
	k.check(unix.Mount(fstype, dir, fstype, 0, options))
	k.t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			k.t.Error(err)
		}
	})
}

// subPath binds what is at a path of a volume for a container.
func (k *kubelet) subPath(pod, volume, container, from string) string {
	k.t.Helper()
	at := filepath.Join(k.root, "pods", pod, "volume-subpaths", volume, container, "0")
	info, err := os.Stat(from)
	k.check(err)
	if info.IsDir() {
		k.check(os.MkdirAll(at, 0o755))
	} else {
		k.check(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, nil, 0o600))
	}
	k.check(unix.Mount(from, at, "", unix.MS_BIND, ""))
	k.t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return at
}

// publish changes a volume in the kubelet's steps: a new directory is filled,
// a link to it takes the place of the one before, and only then names of what is
// in it appear and go.
func (k *kubelet) publish(dir string, round int, files map[string]string) {
	k.t.Helper()
	stamp := fmt.Sprintf("..2026_01_02_03_04_05.%d", round)
	k.check(os.Mkdir(filepath.Join(dir, stamp), 0o755))
	for name, content := range files {
		k.check(os.WriteFile(filepath.Join(dir, stamp, name), []byte(content), 0o640))
		k.check(os.Chown(filepath.Join(dir, stamp, name), -1, 4242))
	}
	before, _ := os.Readlink(filepath.Join(dir, "..data"))
	k.check(os.Symlink(stamp, filepath.Join(dir, "..data_tmp")), os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	for name := range files {
		if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) {
			k.check(os.Symlink("..data/"+name, filepath.Join(dir, name)))
		}
	}
	entries, err := os.ReadDir(dir)
	k.check(err)
	for _, e := range entries {
		if _, has := files[e.Name()]; !has && !strings.HasPrefix(e.Name(), "..") {
			k.check(os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	if before != "" {
		k.check(os.RemoveAll(filepath.Join(dir, before)))
	}
}

// numbered is a ConfigMap of many keys.
func numbered(n int, content string, more map[string]string) map[string]string {
	files := maps.Clone(more)
	for i := range n {
		files[fmt.Sprintf("file-%d", i)] = content
	}
	return files
}

// tool builds the program that containers use, and returns the mount of it.
func (k *kubelet) tool(c *client) string {
	k.t.Helper()
	path := filepath.Join(c.dir, "volumetool")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./testdata/volumetool")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("%v: %s", err, out)
	}
	return mountJSON("/tool", path, `"readonly":true`)
}

func mountJSON(target, source, more string) string {
	if more != "" {
		more = "," + more
	}
	return fmt.Sprintf(`{"container_path":%q,"host_path":%q%s}`, target, source, more)
}

// containerWith runs a script in a container with further parts of its
// configuration.
func (c *client) containerWith(pod, podConfig, name, parts, script string) string {
	c.t.Helper()
	id, err := c.tryContainer(pod, podConfig, name, parts, script)
	if err != nil {
		c.t.Fatal(err)
	}
	c.ok("start", id)
	return id
}

func (c *client) tryContainer(pod, podConfig, name, parts, script string) (string, error) {
	config := c.file("container-"+name+".json", fmt.Sprintf(`{"metadata":{"name":%q},"image":{"image":%q},"command":["sh","-c",%q],"log_path":"%[1]s.log",%[4]s}`, name, busybox, script, parts))
	return c.run("create", pod, config, podConfig)
}

// in runs a script in a container.
func (c *client) in(id, script string) string {
	c.t.Helper()
	return c.ok("exec", "-s", id, "sh", "-c", script)
}
