package containerd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Small files are bound one by one; what the host writes into them arrives.
func TestFilesFollowTheHost(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		dir := t.TempDir()
		var options []string
		for _, name := range []string{"resolv.conf", "hosts", "hostname"} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte("old "+name+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			options = append(options, "--mount", "type=bind,src="+path+",dst=/etc/"+name+",options=rbind:ro")
		}
		d.detach(t, "follow", options, "sleep", "1000")
		read := func() string {
			return d.ok(t, "task", "exec", "--exec-id", "read", "follow", "cat", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname")
		}
		if got := read(); got != "old resolv.conf\nold hosts\nold hostname\n" {
			t.Errorf("the container reads %q", got)
		}
		for _, name := range []string{"resolv.conf", "hosts", "hostname"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("a new and longer "+name+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the host's update arrives", func() bool {
			return read() == "a new and longer resolv.conf\na new and longer hosts\na new and longer hostname\n"
		})
	})
}

// mountAt mounts a tmpfs with one file for the time of a test.
func mountAt(t *testing.T, dir, file string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, file), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// As under runc, ro is not for what is mounted below, and rro is.
func TestBindsOfTrees(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		dir := t.TempDir()
		mountAt(t, filepath.Join(dir, "below"), "deep")
		r := d.run(t, "trees", []string{
			"--mount", "type=bind,src=" + dir + ",dst=/all,options=rbind:rw",
			"--mount", "type=bind,src=" + dir + ",dst=/one,options=bind:rw",
			"--mount", "type=bind,src=" + dir + ",dst=/ro,options=rbind:ro",
			"--mount", "type=bind,src=" + dir + ",dst=/rro,options=rbind:rro",
		}, "sh", "-c", `ls /all/below /one/below /ro/below /rro/below; touch /all/below/new
for f in /ro/no /ro/below/yes /rro/no /rro/below/no; do touch $f 2>/dev/null || echo $f is read-only; done`)
		want := "/all/below:\ndeep\n\n/one/below:\n\n/ro/below:\ndeep\n\n/rro/below:\ndeep\n" +
			"/ro/no is read-only\n/rro/no is read-only\n/rro/below/no is read-only\n"
		if diff := cmp.Diff(want, r.out); diff != "" {
			t.Errorf("%s %s", r.err, diff)
		}
		if _, err := os.Stat(filepath.Join(dir, "below/new")); err != nil {
			t.Error(err)
		}
	})
}

// Read-only is enforced by the host, whatever the guest does: here the process
// has all rights in the guest and mounts the share anew.
func TestReadOnlyAtTheHost(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("kept"), 0o666); err != nil {
			t.Fatal(err)
		}
		r := d.run(t, "hostro", []string{"--cap-add", "CAP_SYS_ADMIN", "--mount", "type=bind,src=" + dir + ",dst=/ro,options=rbind:ro"},
			"sh", "-c", "mount -o remount,rw,bind /ro; mount | grep ' /ro '; echo changed >/ro/f; rm /ro/f; touch /ro/new")
		if !strings.Contains(r.out, "rw") {
			t.Errorf("the guest could not mount it anew, so nothing is tested: %+v", r)
		}
		entries, err := os.ReadDir(dir)
		got, _ := os.ReadFile(filepath.Join(dir, "f"))
		if len(entries) != 1 || string(got) != "kept" {
			t.Errorf("the host has %v with %q, %v", entries, got, err)
		}
	})
}

func TestMountsOfTheSpec(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		r := d.run(t, "mounts", []string{
			"--mount", "type=tmpfs,src=tmpfs,dst=/small,options=size=1m:mode=0700:noexec",
			"--mount", "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro:nosuid",
			"--mount", "type=bind,src=/dev/null,dst=/etc/hosts,options=bind:ro",
		}, "sh", "-c", `df -k /small /dev/shm | awk 'NR>1 {print $2}'
stat -c %a /small; cat /etc/hosts
for m in proc sysfs mqueue cgroup2 devpts; do grep -q " $m " /proc/mounts && echo $m; done
grep ' /small ' /proc/mounts | grep -c noexec`)
		if diff := cmp.Diff("1024\n65536\n700\nproc\nsysfs\nmqueue\ncgroup2\ndevpts\n1\n", r.out); diff != "" {
			t.Errorf("%s %s", r.err, diff)
		}
	})
}

func TestMountsThatAreRefused(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		for want, mount := range map[string]string{
			"rshared":        "type=bind,src=/tmp,dst=/x,options=rbind:rshared",
			"nfs":            "type=nfs,src=server:/,dst=/x",
			"it is a device": "type=bind,src=/dev/tty,dst=/x,options=bind",
		} {
			r := d.run(t, "refused", []string{"--mount", mount}, "true")
			if r.code == 0 || !strings.Contains(r.err, want) {
				t.Errorf("%s gives %+v", mount, r)
			}
			d.remove("refused")
		}
	})
}

// A directory that is followed is a copy in the guest, without a share.
func TestFollowedDirectory(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		tool := filepath.Join(t.TempDir(), "tool")
		build := exec.Command("go", "build", "-trimpath", "-o", tool, "../critest/testdata/volumetool")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		dir := t.TempDir()
		write := func(content string) {
			t.Helper()
			next := filepath.Join(dir, "next")
			if err := errors.Join(os.WriteFile(next, []byte(content), 0o644), os.Rename(next, filepath.Join(dir, "file"))); err != nil {
				t.Fatal(err)
			}
		}
		write("one")
		d.detach(t, "followed", []string{
			"--annotation", "dougong.dev/follow=/app",
			"--mount", "type=bind,src=" + dir + ",dst=/app,options=rbind:ro", "--mount", "type=bind,src=" + tool + ",dst=/tool,options=rbind:ro",
		}, "sh", "-c", "/tool watch /app =/app/file >/log")
		read := func(path string) string { return d.ok(t, "task", "exec", "--exec-id", "read", "followed", "cat", path) }
		eventually(t, "the container watches", func() bool { return strings.Contains(read("/log"), "watching") })
		if got := read("/proc/mounts"); !strings.Contains(got, " /app ramfs ro,") {
			t.Errorf("mounts are %s", got)
		}
		write("two")
		eventually(t, "the event", func() bool { return strings.Contains(read("/log"), "/app moved_to file\nreads \"two\" <nil>\n") })
	})
}
