package vm

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRun checks the exit status, and that the two outputs are kept apart.
func TestRun(t *testing.T) {
	in := install(t)
	r := in.dougong("run", "--rm", busybox(), "sh", "-c", "echo out; echo err >&2; exit 7")
	if r.code != 7 || r.stdout != "out\n" || r.stderr != "err\n" {
		t.Errorf("want exit code 7, out and err:\n%v", r)
	}
}

// TestRunRefusals are errors that are found before any VM is started.
func TestRunRefusals(t *testing.T) {
	in := install(t)
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	for name, tt := range map[string]struct {
		args []string
		says []string
	}{
		"unknown layout":       {[]string{"oci:/no/such/layout", "true"}, []string{"/no/such/layout"}},
		"unknown registry":     {[]string{"127.0.0.1:1/nothing:here", "true"}, []string{"127.0.0.1:1/nothing"}},
		"bad reference":        {[]string{"UPPER CASE", "true"}, []string{"UPPER CASE"}},
		"unknown transport":    {[]string{"ftp:/x", "true"}, []string{"ftp"}},
		"missing rootfs":       {[]string{"dir:/no/such/rootfs", "true"}, []string{"/no/such/rootfs"}},
		"unknown flag":         {[]string{"--no-such-flag", busybox()}, []string{"--no-such-flag"}},
		"no image":             {nil, []string{"requires at least 1 arg"}},
		"too little memory":    {[]string{"--memory", "16m", busybox(), "true"}, []string{"16m", "128 MiB"}},
		"bad memory":           {[]string{"--memory", "much", busybox(), "true"}, []string{"--memory", "much"}},
		"bad cpus":             {[]string{"--cpus", "-1", busybox(), "true"}, []string{"--cpus"}},
		"too many cpus":        {[]string{"--cpus", "100000", busybox(), "true"}, []string{"100000"}},
		"port in use":          {[]string{"-p", "127.0.0.1:" + port + ":80", busybox(), "true"}, []string{port, "in use"}},
		"bad port":             {[]string{"-p", "99999:80", busybox(), "true"}, []string{"99999"}},
		"port without network": {[]string{"--network", "none", "-p", "80", busybox(), "true"}, []string{"none"}},
		"unknown network":      {[]string{"--network", "host", busybox(), "true"}, []string{"host", "none or user"}},
		"named volume":         {[]string{"-v", "name:/x", busybox(), "true"}, []string{"named volumes"}},
		"relative volume":      {[]string{"-v", "/tmp:x", busybox(), "true"}, []string{"x"}},
		"bad volume option":    {[]string{"-v", "/tmp:/x:sideways", busybox(), "true"}, []string{"sideways"}},
		"missing bind source":  {[]string{"--mount", "type=bind,src=/no/such,dst=/x", busybox(), "true"}, []string{"/no/such"}},
		"unknown mount type":   {[]string{"--mount", "type=cloud,dst=/x", busybox(), "true"}, []string{"cloud"}},
		"missing env file":     {[]string{"--env-file", "/no/such/file", busybox(), "true"}, []string{"/no/such/file"}},
		"bad name":             {[]string{"--name", "a/b", busybox(), "true"}, []string{"a/b"}},
		"bad capability":       {[]string{"--cap-add", "FLY", busybox(), "true"}, []string{"FLY"}},
		"bad stop signal":      {[]string{"--stop-signal", "HARD", busybox(), "true"}, []string{"HARD"}},
		"terminal from a pipe": {[]string{"-i", "-t", busybox(), "true"}, []string{"not a terminal"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := in.dougong(append([]string{"run", "--rm"}, tt.args...)...)
			r.wantError(t, 125, tt.says...)
			if strings.Count(r.stderr, "\n") > 6 {
				t.Errorf("a long message:\n%v", r)
			}
		})
	}
}

// TestCommandErrors are found by the guest only.
func TestCommandErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"not there":      {[]string{busybox(), "no-such-command"}, 127, []string{"no-such-command"}},
		"not executable": {[]string{busybox(), "/etc/passwd"}, 126, []string{"/etc/passwd"}},
		"unknown user":   {[]string{"-u", "nobody-knows", busybox(), "true"}, 125, []string{"nobody-knows"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := install(t)
			in.dougong(append([]string{"run"}, tt.args...)...).wantError(t, tt.code, tt.says...)
		})
	}
}

// TestForwardedSignal sends a signal to the command line.
func TestForwardedSignal(t *testing.T) {
	in := install(t)
	cmd := in.command("run", "--rm", "--init", busybox(), "sh", "-c", "echo up; exec sleep 1000")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 3)); n == 0 {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 128+15 || stderr.String() != "" {
		t.Errorf("exit code %d, want 143; stderr %q", code, stderr.String())
	}
}

// facts reads lines of the form name=value.
func facts(output string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(output) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		all[name] = value
	}
	return all
}

// flagScript shows what the flags of TestRunFlags make of a container.
const flagScript = `
echo "id=$(id -u):$(id -g)"
echo "A=$A PASSED=$PASSED FILED=$FILED"
echo "host=$(hostname) $(cat /etc/hostname)"
echo "pwd=$(pwd)"
echo "cpus=$(nproc)"
echo "memory=$(($(sed -n 's/MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 32768))"
echo "dns=$(sed -n 's/^nameserver //p' /etc/resolv.conf)"
echo "scratch=$(df -k /scratch | awk 'NR == 2 {print $1, $2}')"
echo written > /rw/by-guest && echo "rw=$(cat /rw/by-host)"
touch /ro/x 2> /dev/null && echo ro=writable || echo "ro=$(cat /ro/by-host)"
touch /mounted/x 2> /dev/null && echo mounted=writable || echo "mounted=$(cat /mounted/by-host)"
echo "file=$(cat /etc/one.conf)"
echo "bounds=$(sed -n 's/CapBnd:\t//p' /proc/self/status)"
echo "args=$0 $*"
`

func TestRunFlags(t *testing.T) {
	in := install(t)
	rw, ro, file := in.mkdir("rw"), in.mkdir("ro"), in.writeFile("one.conf", "a file")
	in.writeFile("rw/by-host", "shared")
	in.writeFile("ro/by-host", "kept")
	env := in.writeFile("env", "# comment\nFILED=yes\n")
	cmd := in.command("run", "--rm", "-e", "A=1", "-e", "PASSED", "--env-file", env, "--hostname", "guest", "-w", "/work",
		"-u", "1000:2000", "--cpus", "2", "--memory", "320m", "--tmpfs", "/scratch:size=1m",
		"-v", rw+":/rw", "-v", ro+":/ro:ro", "-v", file+":/etc/one.conf",
		"--mount", "type=bind,src="+ro+",dst=/mounted,readonly",
		"--dns", "192.0.2.7", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN",
		"--entrypoint", "sh", busybox(), "-c", flagScript, "zero", "one")
	cmd.Env = append(os.Environ(), "PASSED=on")
	r := in.finish(cmd, nil)
	want := map[string]string{
		"id": "1000:2000", "A": "1 PASSED=on FILED=yes", "host": "guest guest", "pwd": "/work", "cpus": "2",
		// In units of 32 MiB; the kernel keeps some for itself.
		"memory": "8", "dns": "192.0.2.7", "scratch": "tmpfs 1024", "rw": "shared", "ro": "kept", "mounted": "kept",
		"file": "a file", "bounds": "0000000000001000", "args": "zero one",
	}
	got := facts(r.stdout)
	if got["memory"] == "9" {
		got["memory"] = "8"
	}
	if diff := cmp.Diff(want, got); diff != "" || r.code != 0 {
		t.Errorf("(-want +got):\n%s\n%v", diff, r)
	}
	if data, err := os.ReadFile(filepath.Join(rw, "by-guest")); string(data) != "written\n" {
		t.Errorf("file written by the guest: %q, %v", data, err)
	}
	for _, name := range []string{"ro/x", "ro/by-guest"} {
		if _, err := os.Stat(filepath.Join(in.dir, name)); err == nil {
			t.Errorf("%s was written through a read-only mount", name)
		}
	}
}

// TestPrivileged checks the other end: all rights, no network, a read-only root.
func TestPrivileged(t *testing.T) {
	in := install(t)
	const script = `
echo "links=$(ls /sys/class/net)"
echo "bounds=$(sed -n 's/CapEff:\t//p' /proc/self/status)"
touch /x 2> /dev/null && echo root=writable || echo root=readonly
touch /tmp/x 2> /dev/null && echo tmp=writable || echo tmp=readonly
mount -t tmpfs none /mnt && echo mount=done
echo "init=$(cat /proc/1/comm)"
ls /dev/vd* 2> /dev/null
(sleep 0.01 &)
`
	r := in.dougong("run", "--rm", "--privileged", "--init", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/mnt", busybox(), "sh", "-c", script)
	got := facts(r.stdout)
	want := map[string]string{"links": "lo", "bounds": "000001ffffffffff", "root": "readonly", "tmp": "writable", "mount": "done"}
	if got["init"] == "sh" || got["init"] == "" {
		t.Errorf("process 1 is %q and not an init", got["init"])
	}
	delete(got, "init")
	if diff := cmp.Diff(want, got); diff != "" || r.code != 0 {
		t.Errorf("(-want +got):\n%s\n%v", diff, r)
	}
}
