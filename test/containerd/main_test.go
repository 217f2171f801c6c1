package containerd

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"dougong.dev/dougong/internal/image/imagetest"
)

// suite is what all tests share.
var suite struct {
	// bin holds the binaries of the product, clients those of others, base
	// everything made here.
	bin, clients, base string
	// image is the archive of a small image, config the product's configuration.
	image, config string
	// scratch is an empty file system, which the blockfile snapshotter copies.
	scratch string
	daemons []*daemon
}

const (
	runtimeName = "io.containerd.dougong.v2"
	imageName   = "docker.io/library/busybox:latest"
	busyboxPath = "/bin/busybox"
	guestDir    = "/var/lib/dougong/guest/current"
)

func TestMain(m *testing.M) {
	dir := os.Getenv("DOUGONG_CONTAINERD")
	if dir == "" || os.Geteuid() != 0 {
		fmt.Println("skipped: run 'make test-containerd' as root")
		return
	}
	code, err := runSuite(m, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/containerd:", err)
		code = 1
	}
	os.Exit(code)
}

func runSuite(m *testing.M, dir string) (code int, err error) {
	suite.clients = dir
	if suite.base, err = os.MkdirTemp("", "dgc-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(suite.base)) }()
	if err := prepare(); err != nil {
		return 1, err
	}
	versions, err := filepath.Glob(filepath.Join(dir, "*", "containerd"))
	if err != nil || len(versions) == 0 {
		return 1, fmt.Errorf("no containerd in %s: make it with: make test-containerd", dir)
	}
	for i, path := range versions {
		d := newDaemon(filepath.Dir(path), filepath.Join(suite.base, fmt.Sprint("d", i)))
		if err := d.start(); err != nil {
			return 1, err
		}
		defer d.stop()
		if err := d.importImage(); err != nil {
			return 1, err
		}
		suite.daemons = append(suite.daemons, d)
	}
	return m.Run(), nil
}

// prepare makes what daemons and sandboxes need.
func prepare() error {
	var err error
	if suite.bin, err = filepath.Abs(os.Getenv("DOUGONG_BIN")); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(suite.bin, "containerd-shim-dougong-v2")); err != nil {
		return fmt.Errorf("%w; make it with: make build", err)
	}
	layout := filepath.Join(suite.base, "busybox")
	if err := imagetest.BusyboxLayout(layout, busyboxPath); err != nil {
		return err
	}
	suite.image = filepath.Join(suite.base, "busybox.tar")
	if err := pack(suite.image, layout); err != nil {
		return err
	}
	suite.scratch = filepath.Join(suite.base, "scratch")
	if out, err := exec.Command("mkfs.ext4", "-q", suite.scratch, "64M").CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	// The guest image may be rebuilt while tests run.
	config := "[vm]\nhealth_timeout = \"2s\"\n"
	for key, name := range map[string]string{"kernel": "vmlinux", "initrd": "initramfs.cpio"} {
		path := filepath.Join(suite.base, name)
		if err := copyFile(path, filepath.Join(guestDir, name)); err != nil {
			return fmt.Errorf("%w; make it with: make guest", err)
		}
		config += fmt.Sprintf("%s = %q\n", key, path)
	}
	config += fmt.Sprintf("[storage]\nroot = %q\n[runtime]\nlog_level = \"debug\"\n", filepath.Join(suite.base, "storage"))
	suite.config = filepath.Join(suite.base, "config.toml")
	return os.WriteFile(suite.config, []byte(config), 0o600)
}

func copyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// pack writes a directory as an archive.
func pack(dst, dir string) error {
	f, err := os.Create(dst)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	return errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), f.Close())
}

// each runs a test under every daemon, and checks that nothing is left.
func each(t *testing.T, test func(t *testing.T, d *daemon)) {
	for _, d := range suite.daemons {
		t.Run(filepath.Base(d.bin), func(t *testing.T) {
			// Registered first, this comes after the clean-up of the test itself.
			t.Cleanup(func() { d.checkLeaks(t) })
			test(t, d)
		})
	}
}

// newest runs a test under the newest daemon, where the daemon has no part in it.
func newest(t *testing.T, test func(t *testing.T, d *daemon)) {
	t.Helper()
	for _, d := range suite.daemons {
		if d.isNew() {
			t.Cleanup(func() { d.checkLeaks(t) })
			test(t, d)
		}
	}
}
