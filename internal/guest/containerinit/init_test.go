package containerinit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary stands in for the agent's: with this variable it is the init.
const asInit = "DOUGONG_TEST_CONTAINER_INIT"

// catch, as its first argument, makes the test binary a command that waits for the
// signal in its second. A shell would not do: one that comes between its trap and
// its read is not seen until the read ends.
const catch = "catch"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == catch {
		catchSignal(os.Args[2])
	}
	if os.Getenv(asInit) != "" {
		// Orphans come to us as they come to pid 1.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			os.Exit(99)
		}
		os.Exit(Run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func catchSignal(number string) {
	n, err := strconv.Atoi(number)
	if err != nil {
		os.Exit(99)
	}
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.Signal(n))
	fmt.Println("ready")
	<-caught
	fmt.Println("got")
	os.Exit(42)
}

func initCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asInit+"=1")
	return cmd
}

func exitOf(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

func TestExitCodes(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want int
	}{
		"success":        {[]string{"--", "sh", "-c", "exit 0"}, 0},
		"status":         {[]string{"sh", "-c", "exit 7"}, 7},
		"killed":         {[]string{"--", "sh", "-c", "kill -9 $$"}, 137},
		"not found":      {[]string{"--", "dougong-no-such-program"}, 127},
		"no such path":   {[]string{"--", "/no/such/program"}, 127},
		"not executable": {[]string{"--", plain}, 126},
		"directory":      {[]string{"--", "/"}, 126},
		"nothing":        {[]string{"--"}, 125},
	} {
		if got := exitOf(t, initCommand(c.args...).Run()); got != c.want {
			t.Errorf("%s: exit %d, want %d", name, got, c.want)
		}
	}
}

func TestPassesArgumentsAndOutput(t *testing.T) {
	var out bytes.Buffer
	cmd := initCommand("--", "sh", "-c", `cat; printf '%s|' "$@"`, "sh", "--", "a b", "")
	cmd.Stdin, cmd.Stdout = strings.NewReader("in "), &out
	if err := cmd.Run(); err != nil || out.String() != "in --|a b||" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

// startAndRead starts the init and returns the first line that its command prints.
func startAndRead(t *testing.T, script string) (*exec.Cmd, string, *bufio.Reader) {
	t.Helper()
	cmd := initCommand("--", "sh", "-c", script)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line), out
}

func TestForwardsSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR1, unix.SIGWINCH} {
		cmd := initCommand("--", os.Args[0], catch, strconv.Itoa(int(sig)))
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out := bufio.NewReader(pipe)
		if line, err := out.ReadString('\n'); line != "ready\n" {
			t.Fatalf("%v: %q, %v", sig, line, err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if line, err := out.ReadString('\n'); line != "got\n" {
			t.Errorf("%v: %q, %v", sig, line, err)
		}
		if got := exitOf(t, cmd.Wait()); got != 42 {
			t.Errorf("%v: exit %d", sig, got)
		}
	}
}

func TestDefaultActionKillsCommand(t *testing.T) {
	cmd, _, _ := startAndRead(t, `echo ready; exec sleep 60`)
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := exitOf(t, cmd.Wait()); got != 143 {
		t.Errorf("exit %d, want 143", got)
	}
}

// An orphan that ends is reaped while the command goes on: its /proc entry
// goes away, which the command itself waits for.
func TestReapsOrphans(t *testing.T) {
	script := `(sh -c 'echo $$; exec true' &); read x; exit 5`
	cmd := initCommand("--", "sh", "-c", script)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(pipe).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join("/proc", strings.TrimSpace(line))
	waitGone(t, orphan)
	_ = stdin.Close()
	if got := exitOf(t, cmd.Wait()); got != 5 {
		t.Errorf("exit %d, want 5", got)
	}
}
