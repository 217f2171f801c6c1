package containerd

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

// nerdctl is a client of the newest daemon, with a directory of its own.
type nerdctl struct{ d *daemon }

func (n nerdctl) command(args ...string) *exec.Cmd {
	dir := filepath.Join(n.d.dir, "nerdctl")
	cni := filepath.Join(dir, "cni")
	if n.d.apart {
		cni = cniPlugins
	}
	cmd := n.d.beside(filepath.Join(suite.clients, "nerdctl"), append([]string{
		"--address", n.d.socket(), "--data-root", filepath.Join(dir, "data"), "--cgroup-manager", "cgroupfs",
		"--cni-path", cni, "--cni-netconfpath", filepath.Join(dir, "net"),
	}, args...)...)
	// Logging programs are below the sandbox, and that is below the daemon.
	cmd.Env = append(os.Environ(), "NERDCTL_TOML="+filepath.Join(dir, "none"))
	return cmd
}

// run runs a command to its end.
func (n nerdctl) run(t *testing.T, input string, args ...string) result {
	t.Helper()
	cmd := n.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		t.Fatalf("nerdctl %q does not end; it has said %q, %q", args, out.String(), errs.String())
	}
	r := result{out: out.String(), err: withoutWarnings(errs.String())}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		r.code = exit.ExitCode()
	}
	return r
}

func (n nerdctl) ok(t *testing.T, args ...string) string {
	t.Helper()
	r := n.run(t, "", args...)
	if r.code != 0 {
		t.Fatalf("nerdctl %q: exit %d: %s", args, r.code, r.err)
	}
	return r.out
}

// runFlags are those of every run.
func runFlags(flags ...string) []string {
	return append([]string{"run", "--runtime", runtimeName, "--net", "none"}, flags...)
}

// withNerdctl runs a test under the newest daemon and checks that nothing stays.
func withNerdctl(t *testing.T, test func(t *testing.T, n nerdctl)) {
	t.Helper()
	newest(t, func(t *testing.T, d *daemon) { test(t, nerdctl{d}) })
}

// resident starts a container that stays until the end of the test.
func (n nerdctl) resident(t *testing.T, name, script string, flags ...string) {
	t.Helper()
	args := append(runFlags("-d", "--name", name), flags...)
	n.ok(t, append(args, "busybox", "sh", "-c", script)...)
	t.Cleanup(func() { _ = n.command("rm", "-f", name).Run() })
}

func TestNerdctlLife(t *testing.T) {
	withNerdctl(t, func(t *testing.T, n nerdctl) {
		n.resident(t, "life", "echo out; echo err >&2; while :; do sleep 0.2; done")
		eventually(t, "the log", func() bool {
			r := n.run(t, "", "logs", "life")
			return r.out == "out\n" && r.err == "err\n"
		})
		if r := n.run(t, "", "exec", "-e", "A=b", "-w", "/tmp", "-u", "nobody", "life", "sh", "-c", "echo $A; pwd; id -u; exit 3"); r.out != "b\n/tmp\n65534\n" || !strings.Contains(r.err, "exit code 3") {
			t.Errorf("exec gives %+v", r)
		}
		for range 3 {
			if r := n.run(t, "typed\n", "exec", "-i", "life", "cat"); r.out != "typed\n" || r.code != 0 {
				t.Errorf("exec with input gives %+v", r)
			}
		}
		n.ok(t, "pause", "life")
		if s := n.ok(t, "inspect", "--format", "{{.State.Status}}", "life"); s != "paused\n" {
			t.Errorf("status is %s", s)
		}
		n.ok(t, "unpause", "life")
		n.ok(t, "stop", "-t", "1", "life")
		if s := n.ok(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "life"); s != "exited 137\n" {
			t.Errorf("status is %s", s)
		}
		n.ok(t, "start", "life")
		eventually(t, "the log of both lives", func() bool {
			return n.ok(t, "logs", "life") == "out\nout\n"
		})
		n.ok(t, "kill", "life")
		eventually(t, "the end", func() bool {
			return strings.HasPrefix(n.ok(t, "inspect", "--format", "{{.State.Status}}", "life"), "exited")
		})
	})
}

// top asks ps on the host about the processes that are reported.
func TestNerdctlTop(t *testing.T) {
	withNerdctl(t, func(t *testing.T, n nerdctl) {
		n.resident(t, "top", "while :; do sleep 11; done")
		n.ok(t, "exec", "-d", "-u", "nobody", "top", "sleep", "1234")
		var rows []string
		eventually(t, "all processes", func() bool {
			rows = nil
			for line := range strings.Lines(n.ok(t, "top", "top")) {
				if f := strings.Fields(line); len(f) > 7 {
					rows = append(rows, f[0]+" "+strings.Join(f[7:], " "))
				}
			}
			return len(rows) == 4
		})
		want := []string{"UID CMD", "root sh -c while :; do sleep 11; done", "root sleep 11", "nobody sleep 1234"}
		if diff := cmp.Diff(want, rows); diff != "" {
			t.Error(diff)
		}
		pid := strings.TrimSpace(n.ok(t, "inspect", "--format", "{{.State.Pid}}", "top"))
		if listed := strings.Contains(n.ok(t, "top", "top"), " "+pid+" "); !listed {
			t.Errorf("process %s of the container is not listed", pid)
		}
	})
}

func TestNerdctlLimits(t *testing.T) {
	withNerdctl(t, func(t *testing.T, n nerdctl) {
		n.resident(t, "limits", "sleep 1000", "--cpus", "1.5", "--memory", "600m", "--pids-limit", "50")
		limits := func() string {
			return n.ok(t, "exec", "limits", "sh", "-c", "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max; nproc; test $(awk '/MemTotal/ {print $2}' /proc/meminfo) -ge 614400 && echo room")
		}
		if diff := cmp.Diff("629145600\n150000 100000\n50\n2\nroom\n", limits()); diff != "" {
			t.Error(diff)
		}
		n.ok(t, "update", "--memory", "300m", "--cpu-quota", "50000", "limits")
		if diff := cmp.Diff("314572800\n50000 100000\n50\n2\nroom\n", limits()); diff != "" {
			t.Errorf("after update: %s", diff)
		}
		fields := strings.Fields(strings.Split(n.ok(t, "stats", "--no-stream", "limits"), "\n")[1])
		// Memory is counted, and no traffic of the host's.
		if len(fields) < 13 || fields[3] == "0B" || fields[7] != "0B" || fields[9] != "0B" {
			t.Errorf("stats are %q", fields)
		}
	})
}

func TestNerdctlFiles(t *testing.T) {
	withNerdctl(t, func(t *testing.T, n nerdctl) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "in"), []byte("from the host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		n.resident(t, "files", "sleep 1000", "-v", dir+":/data", "-v", dir+":/ro:ro", "--tmpfs", "/t:size=1m", "--shm-size", "10m")
		n.ok(t, "cp", filepath.Join(dir, "in"), "files:/tmp/in")
		if out := n.ok(t, "exec", "files", "cat", "/tmp/in", "/data/in"); out != "from the host\nfrom the host\n" {
			t.Errorf("the container reads %q", out)
		}
		n.ok(t, "exec", "files", "sh", "-c", "echo from the guest | tee /tmp/out >/data/out")
		n.ok(t, "cp", "files:/tmp/out", filepath.Join(dir, "copied"))
		for _, name := range []string{"out", "copied"} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != "from the guest\n" {
				t.Errorf("%s is %q, %v", name, got, err)
			}
		}
		if r := n.run(t, "", "exec", "files", "touch", "/ro/x"); !strings.Contains(r.err, "Read-only") {
			t.Errorf("writing to a read-only volume gives %+v", r)
		}
		if out := n.ok(t, "exec", "files", "sh", "-c", "df -k /t /dev/shm | awk 'NR>1 {print $2}'"); out != "1024\n10240\n" {
			t.Errorf("sizes are %q", out)
		}
	})
}

func TestNerdctlRun(t *testing.T) {
	withNerdctl(t, func(t *testing.T, n nerdctl) {
		for name, c := range map[string]struct {
			input        string
			flags        []string
			script, want string
			code         int
		}{
			"status":    {script: "exit 9", code: 9},
			"input":     {input: "typed\n", flags: []string{"-i"}, script: "cat", want: "typed\n"},
			"read-only": {flags: []string{"--read-only"}, script: "touch /x 2>/dev/null || echo refused", want: "refused\n"},
			"user":      {flags: []string{"--user", "1000:1001"}, script: "id -u; id -g", want: "1000\n1001\n"},
			"name":      {flags: []string{"--user", "nobody", "--hostname", "box"}, script: "id -un; hostname; cat /etc/hostname", want: "nobody\nbox\nbox\n"},
			"rights":    {flags: []string{"--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--ulimit", "nofile=100:200"}, script: "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | cut -f 2; ulimit -n", want: "0000000000000000\n1\n2\n100\n"},
			"sysctl":    {flags: []string{"--sysctl", "kernel.msgmax=9000"}, script: "cat /proc/sys/kernel/msgmax", want: "9000\n"},
		} {
			args := append(runFlags("--rm"), c.flags...)
			r := n.run(t, c.input, append(args, "busybox", "sh", "-c", c.script)...)
			if r.out != c.want || r.code != c.code {
				t.Errorf("%s gives %+v, want %q", name, r, c.want)
			}
		}
	})
}

// What cannot be honoured is refused by its name, and at once.
func TestNerdctlRefusals(t *testing.T) {
	withNerdctl(t, func(t *testing.T, n nerdctl) {
		for want, flags := range map[string][]string{
			"linux.namespaces": {"--pid", "host"}, "/dev/fuse": {"--device", "/dev/fuse"}, "linux.devices[0]": {"--privileged"}, "it is a device": {"-v", "/dev/tty:/x"},
		} {
			args := append(runFlags("--name", "refused"), flags...)
			r := n.run(t, "", append(args, "busybox", "true")...)
			if r.code == 0 || !strings.Contains(r.err, want) {
				t.Errorf("%q gives %+v", flags, r)
			}
			_ = n.command("rm", "-f", "refused").Run()
		}
	})
}

func TestNerdctlTerminal(t *testing.T) {
	withNerdctl(t, func(t *testing.T, n nerdctl) {
		cmd := n.command(append(runFlags("--rm", "-it"), "busybox", "sh", "-c", "stty size; read line; echo got $line; exit 4")...)
		user, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 31, Cols: 101})
		if err != nil {
			t.Fatal(err)
		}
		defer user.Close()
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if _, err := io.WriteString(user, "typed\n"); err != nil {
			t.Fatal(err)
		}
		out, _ := io.ReadAll(user)
		_ = cmd.Wait()
		if got := string(out); !strings.Contains(got, "31 101") || !strings.Contains(got, "got typed") || cmd.ProcessState.ExitCode() != 4 {
			t.Errorf("exit %d: %q", cmd.ProcessState.ExitCode(), got)
		}
	})
}
