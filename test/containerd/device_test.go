package containerd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// loopDevice makes a block device of 40 MiB for the time of a test, and returns
// its node and the file behind it.
func loopDevice(t *testing.T) (node, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 40<<20); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	node = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if err := exec.Command("losetup", "-d", node).Run(); err != nil {
			t.Error(err)
		}
	})
	return node, file
}

func TestBlockDevice(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		node, file := loopDevice(t)
		script := "blockdev --getsize64 " + node + "; echo from the guest | dd of=" + node + " conv=sync,fsync 2>/dev/null; dd if=" + node + " bs=14 count=1 2>/dev/null"
		r := d.run(t, "device", []string{"--device", node}, "sh", "-c", script)
		if want := strconv.Itoa(40<<20) + "\nfrom the guest"; r.out != want || r.code != 0 {
			t.Errorf("got %+v, want %q", r, want)
		}
		got, err := os.ReadFile(file)
		if !bytes.HasPrefix(got, []byte("from the guest\n")) {
			t.Errorf("the host reads %q, %v", got[:16], err)
		}
	})
}

// A device is no way to the disks of the VM, and its rules hold.
func TestBlockDeviceOfOthers(t *testing.T) {
	withNerdctl(t, func(t *testing.T, n nerdctl) {
		node, _ := loopDevice(t)
		script := `dd if=/dev/data bs=1 count=1 2>/dev/null | wc -c
dd if=/dev/zero of=/dev/data bs=512 count=1 2>/dev/null || echo read-only
for i in 0 1 2 3; do mknod /tmp/d$i b 254 $((i*16)); dd if=/tmp/d$i of=/dev/null bs=1 count=1 2>/dev/null && echo read $i; done; true`
		args := append(runFlags("--rm", "--device", node+":/dev/data:r"), "busybox", "sh", "-c", script)
		// The one that can be read by another name is the container's own.
		if r := n.run(t, "", args...); strings.Count(r.out, "read ") > 1 || !strings.HasPrefix(r.out, "1\nread-only\n") {
			t.Errorf("got %+v", r)
		}
	})
}

// A merged EROFS consists of metadata and the files of its layers; here one
// that was made by mkfs stands in the place of a snapshot's.
func TestErofsOfSeveralFiles(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		// A namespace of its own, whose snapshots nobody else uses.
		ctr := func(args ...string) string { return d.ok(t, append([]string{"-n", "merged"}, args...)...) }
		ctr("images", "import", "--base-name", "docker.io/library/busybox", suite.image)
		t.Cleanup(func() { _ = d.command("-n", "merged", "images", "rm", "--sync", imageName).Run() })
		run := append(append([]string{"run", "--rm", "--snapshotter", "erofs"}, flags()[1:]...), imageName, "merged")
		// The first run unpacks the image.
		ctr(append(run, "true")...)
		dir := snapshotDir(t, filepath.Join(d.dir, "root/io.containerd.snapshotter.v1.erofs/snapshots"))
		merge(t, dir)
		out := ctr(append(run, "/bin/busybox", "sh", "-c", "/bin/busybox cat /mark; echo w >/w; /bin/busybox cat /w")...)
		if out != "merged\nw\n" {
			t.Errorf("got %q", out)
		}
	})
}

// snapshotDir is the newest directory with a layer.
func snapshotDir(t *testing.T, root string) string {
	t.Helper()
	layers, err := filepath.Glob(filepath.Join(root, "*", "layer.erofs"))
	if err != nil || len(layers) == 0 {
		t.Fatalf("no layers in %s: %v", root, err)
	}
	newest, at := "", int64(0)
	for _, l := range layers {
		var stat unix.Stat_t
		if err := unix.Stat(l, &stat); err != nil {
			t.Fatal(err)
		}
		if stat.Ctim.Nano() > at {
			newest, at = filepath.Dir(l), stat.Ctim.Nano()
		}
	}
	return newest
}

// merge replaces a snapshot's layer by one that is only the data of another
// file.
func merge(t *testing.T, dir string) {
	t.Helper()
	root := t.TempDir()
	for _, name := range []string{"bin", "proc", "dev", "sys", "tmp", "run", "etc"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyFile(filepath.Join(root, "bin/busybox"), busyboxPath); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "bin/busybox"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("busybox", filepath.Join(root, "bin/sh")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "mark"), []byte("merged\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join(dir, "layer.erofs")
	if err := os.Truncate(layer, 0); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("mkfs.erofs", "--chunksize=4096", "--blobdev="+layer, filepath.Join(dir, "fsmeta.erofs"), root).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
