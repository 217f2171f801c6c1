package containerd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRun(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		r := d.run(t, "run", nil, "sh", "-c", "uname -r; echo complaint >&2; exit 7")
		host, _ := os.ReadFile("/proc/sys/kernel/osrelease")
		if r.code != 7 || r.out == "" || r.out == string(host) || r.err != "complaint\n" {
			t.Errorf("got %+v on a host with kernel %s", r, host)
		}
	})
}

func TestInput(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		x := d.talk(t, runArgs("in", []string{"--rm"}, "sh", "-c", "cat; echo end")...)
		x.ask("one\n", "one\n")
		// ctr hands on the end of its input only once the task runs.
		_ = x.in.Close()
		if got, err := x.out.ReadString('\n'); got != "end\n" {
			t.Errorf("got %q, %v", got, err)
		}
		if err := x.cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// Every byte is out before the exit is reported.
func TestMuchOutput(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		r := d.run(t, "much", nil, "sh", "-c", "dd if=/dev/zero bs=1M count=20 2>/dev/null; exit 3")
		if len(r.out) != 20<<20 || r.code != 3 {
			t.Errorf("got %d bytes, exit %d, %s", len(r.out), r.code, r.err)
		}
	})
}

func TestOptions(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		options := []string{
			"--mount", "type=bind,src=" + dir + ",dst=/rw,options=rbind:rw", "--mount", "type=bind,src=" + dir + ",dst=/ro,options=rbind:ro",
			"--read-only", "--env", "GREETING=hello", "--cwd", "/tmp",
		}
		user := "0\n0\n"
		if d.isNew() {
			// Debian's ctr has no such flag.
			options, user = append(options, "--user", "1000:1001"), "1000\n1001\n"
		}
		r := d.run(t, "options", options, "sh", "-c",
			"id -u; id -g; pwd; echo $GREETING; echo in >/rw/f; cat /ro/f; echo no >/ro/g 2>/dev/null || echo ro; echo no >/g 2>/dev/null || echo root")
		want := user + "/tmp\nhello\nin\nro\nroot\n"
		if diff := cmp.Diff(want, r.out); diff != "" || r.code != 0 {
			t.Errorf("exit %d, %s\n%s", r.code, r.err, diff)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "f")); string(got) != "in\n" || err != nil {
			t.Errorf("on the host: %q, %v", got, err)
		}
	})
}

func TestFailures(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		for want, args := range map[string][]string{
			"no-such-command":    runArgs("fail", []string{"--rm"}, "no-such-command"),
			"does not exist":     runArgs("fail", []string{"--rm", "--mount", "type=bind,src=/no/such,dst=/x,options=rbind"}, "true"),
			"unknown annotation": runArgs("fail", []string{"--rm", "--annotation", "dougong.dev/nonsense=1"}, "true"),
		} {
			if want == "unknown annotation" && !d.isNew() {
				// This ctr has no such flag.
				continue
			}
			r := d.ctr(t, args...)
			if r.code == 0 || !strings.Contains(r.err, want) {
				t.Errorf("got %+v, want %q", r, want)
			}
			d.remove("fail")
		}
	})
}

func TestSnapshotters(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		names := []string{"overlayfs", "native"}
		if d.isNew() {
			names = append(names, "erofs", "blockfile")
		}
		for _, name := range names {
			// What is written stays for the next task of the container, which
			// must not write it once more.
			d.detach(t, name, []string{"--snapshotter", name}, "sh", "-c", "[ -e /new ] || { mkdir /new; echo 1 >/new/f; rm -r /home; }; sleep 1000")
			eventually(t, "the container writes", func() bool {
				return d.ctr(t, "task", "exec", "--exec-id", "look", name, "test", "!", "-e", "/home").code == 0
			})
			d.ok(t, "task", "kill", "-s", "KILL", name)
			eventually(t, name+" stops", func() bool { return d.status(t, name) == "STOPPED" })
			d.ctr(t, "task", "rm", name)
			d.ok(t, "task", "start", "-d", name)
			out := d.ok(t, "task", "exec", "--exec-id", "look", name, "cat", "/new/f")
			if out != "1\n" {
				t.Errorf("%s: what was written is %q", name, out)
			}
			if r := d.ctr(t, "task", "exec", "--exec-id", "look", name, "mount"); name == "erofs" && !strings.Contains(r.out, "lowerdir=") || name == "blockfile" && !strings.Contains(r.out, "on / type ext4") {
				t.Errorf("the root file system is not on disks: %s", r.out)
			}
			d.remove(name)
		}
	})
}

func TestRootfsOfTheCaller(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		root := rootfs(t)
		args := append(flags("--rm", "--rootfs"), root, "rootfs", "/bin/busybox", "sh", "-c", "echo hello >/tmp/f")
		if r := d.ctr(t, args...); r.code != 0 {
			t.Errorf("got %+v", r)
		}
		if got, err := os.ReadFile(filepath.Join(root, "tmp/f")); string(got) != "hello\n" {
			t.Errorf("written %q, %v", got, err)
		}
	})
}

// A client that copies by way of the process that is reported sees the
// container, never the host.
func TestRootOfTheReportedProcess(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		names := []string{"overlayfs"}
		if d.isNew() {
			names = append(names, "erofs")
		}
		for _, name := range names {
			d.detach(t, "root", []string{"--snapshotter", name}, "sh", "-c", "echo guest >/mark; sleep 1000")
			eventually(t, "the container writes", func() bool {
				return d.ctr(t, "task", "exec", "--exec-id", "look", "root", "test", "-s", "/mark").code == 0
			})
			pid := strings.Fields(d.ok(t, "task", "ls"))[4]
			root := filepath.Join("/proc", pid, "root")
			if _, err := os.Stat(filepath.Join(root, "etc/debian_version")); err == nil {
				t.Errorf("%s: process %s shows the host's files", name, pid)
			}
			if got, err := os.ReadFile(filepath.Join(root, "mark")); name == "overlayfs" && string(got) != "guest\n" {
				t.Errorf("%s: the file is %q, %v", name, got, err)
			}
			d.remove("root")
		}
	})
}
