package containerd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemon is one containerd.
type daemon struct {
	bin, dir string
	cmd      *exec.Cmd
	// sockets are those of shims that were there before.
	sockets int
	// apart gives the daemon a network and a view of CNI's directories of its own.
	apart bool
}

// patience bounds whatever is waited for.
const patience = 60 * time.Second

func newDaemon(bin, dir string) *daemon {
	return &daemon{bin: bin, dir: dir, sockets: len(shimSockets())}
}

func (d *daemon) isNew() bool { return filepath.Base(d.bin) != "debian" }

func (d *daemon) socket() string { return filepath.Join(d.dir, "c.sock") }

// start starts the daemon, also for another time.
func (d *daemon) start() error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	version, disabled := 2, `"io.containerd.grpc.v1.cri"`
	if d.isNew() {
		version, disabled = 3, `"io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"`
	}
	config := fmt.Sprintf("version = %d\nroot = %q\nstate = %q\ndisabled_plugins = [%s]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n[debug]\nlevel = \"trace\"\n",
		version, filepath.Join(d.dir, "root"), filepath.Join(d.dir, "state"), disabled, d.socket(), d.socket()+".ttrpc")
	if d.isNew() {
		config += fmt.Sprintf("[plugins.\"io.containerd.snapshotter.v1.blockfile\"]\nscratch_file = %q\nfs_type = \"ext4\"\n", suite.scratch)
	}
	path := filepath.Join(d.dir, "config.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command(filepath.Join(d.bin, "containerd"), "-c", path)
	if d.apart {
		d.cmd = exec.Command("unshare", "-n", "-m", "sh", "-ec", apartScript, d.dir, filepath.Join(d.bin, "containerd"), "-c", path)
	}
	// Clients that hand no options to a runtime get its configuration so.
	d.cmd.Env = append(os.Environ(), "PATH="+suite.bin+":"+os.Getenv("PATH"), "DOUGONG_CONFIG="+suite.config)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < patience; <-time.After(20 * time.Millisecond) {
		if d.command("version").Run() == nil {
			return nil
		}
	}
	return fmt.Errorf("%s does not come up; see %s", d.cmd.Path, log.Name())
}

// kill ends the daemon as a crash does.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}

func (d *daemon) importImage() error {
	out, err := d.command("images", "import", "--base-name", "docker.io/library/busybox", suite.image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("import image: %w: %s", err, out)
	}
	return nil
}

func (d *daemon) command(args ...string) *exec.Cmd {
	return d.beside(filepath.Join(d.bin, "ctr"), append([]string{"-a", d.socket()}, args...)...)
}

// beside is a command that sees what the daemon sees.
func (d *daemon) beside(name string, args ...string) *exec.Cmd {
	if !d.apart {
		return exec.Command(name, args...)
	}
	return exec.Command("nsenter", append([]string{"-t", fmt.Sprint(d.cmd.Process.Pid), "-n", "-m", name}, args...)...)
}

// result is what a command has said.
type result struct {
	out, err string
	code     int
}

// ctr runs a command of ctr to its end.
func (d *daemon) ctr(t *testing.T, args ...string) result {
	t.Helper()
	return d.within(t, patience, args...)
}

// patient is ctr for when many run beside each other.
func (d *daemon) patient(t *testing.T, args ...string) result {
	t.Helper()
	return d.within(t, 10*patience, args...)
}

func (d *daemon) within(t *testing.T, limit time.Duration, args ...string) result {
	t.Helper()
	cmd := d.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		t.Fatalf("ctr %q does not end; it has said %q, %q", args, out.String(), errs.String())
	}
	r := result{out: out.String(), err: withoutWarnings(errs.String())}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		r.code = exit.ExitCode()
	}
	return r
}

// dialog is a command of ctr that is talked to.
type dialog struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// talk starts a command. It is killed at the end of the test.
func (d *daemon) talk(t *testing.T, args ...string) *dialog {
	t.Helper()
	x := &dialog{t: t, cmd: d.command(args...)}
	var err error
	if x.in, err = x.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := x.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	x.out = bufio.NewReader(out)
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = x.cmd.Process.Kill() })
	t.Cleanup(func() {
		late.Stop()
		x.leave()
	})
	return x
}

// leave ends the client as a crash does.
func (x *dialog) leave() {
	_ = x.cmd.Process.Kill()
	_ = x.cmd.Wait()
}

// ask sends a line and expects another.
func (x *dialog) ask(send, want string) {
	x.t.Helper()
	if _, err := io.WriteString(x.in, send); err != nil {
		x.t.Fatal(err)
	}
	if got, err := x.out.ReadString('\n'); got != want {
		x.t.Fatalf("%q is answered by %q, %v", send, got, err)
	}
}

// withoutWarnings drops what ctr says of this host.
func withoutWarnings(s string) string {
	var kept strings.Builder
	for line := range strings.Lines(s) {
		if !strings.Contains(line, "DEPRECATION") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// ok runs a command that must succeed and returns its output.
func (d *daemon) ok(t *testing.T, args ...string) string {
	t.Helper()
	r := d.ctr(t, args...)
	if r.code != 0 {
		t.Fatalf("ctr %q: exit %d: %s", args, r.code, r.err)
	}
	return r.out
}

// flags are those of every run.
func flags(more ...string) []string {
	return append([]string{"run", "--runtime", runtimeName, "--runtime-config-path", suite.config}, more...)
}

// run runs a container to its end: flags, id and command.
func (d *daemon) run(t *testing.T, id string, options []string, command ...string) result {
	t.Helper()
	return d.ctr(t, runArgs(id, append([]string{"--rm"}, options...), command...)...)
}

func runArgs(id string, options []string, command ...string) []string {
	return append(append(flags(options...), imageName, id), command...)
}

// detach starts a container that is removed at the end of the test.
func (d *daemon) detach(t *testing.T, id string, options []string, command ...string) {
	t.Helper()
	d.ok(t, runArgs(id, append([]string{"-d"}, options...), command...)...)
	t.Cleanup(func() { d.remove(id) })
}

func (d *daemon) remove(id string) {
	_ = d.command("task", "rm", "-f", id).Run()
	_ = d.command("container", "rm", id).Run()
}

// status returns a task's status as ctr lists it, empty without a task.
func (d *daemon) status(t *testing.T, id string) string {
	t.Helper()
	for line := range strings.Lines(d.ok(t, "task", "ls")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == id {
			return fields[2]
		}
	}
	return ""
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); <-time.After(50 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
