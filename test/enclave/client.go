package enclave

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// Patience bounds whatever is waited for.
const Patience = 90 * time.Second

// Sleeper is a script that says "ready" and then waits, until it is told to end
// and does so with 5.
const Sleeper = `trap "echo term; exit 5" TERM; echo ready; sleep 1000 & wait`

// Client is the command line of a container engine.
type Client struct {
	Name string
	// Command is the engine's with its own arguments before those given.
	Command func(args ...string) *exec.Cmd
	// Remove are the arguments that remove a container whatever it does.
	Remove []string
}

// Run runs a command and returns what it prints, without the line's end.
func (c Client) Run(args ...string) (string, error) {
	var out, errs strings.Builder
	cmd := c.Command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", c.Name, strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// Must runs a command that has to succeed.
func (c Client) Must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.Run(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Fails runs a command that has to fail, with a text in what it says.
func (c Client) Fails(t *testing.T, text string, args ...string) {
	t.Helper()
	if out, err := c.Run(args...); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s %s prints %q, %v, want an error with %q", c.Name, strings.Join(args, " "), out, err, text)
	}
}

// Start runs a container in the background that says "ready", waits for that
// and returns its id. The container ends with the test.
func (c Client) Start(t *testing.T, flags []string, image, script string) string {
	t.Helper()
	id := c.Must(t, append(append([]string{"run", "--detach"}, flags...), image, "sh", "-c", script)...)
	c.Later(t, id)
	Await(t, "ready", func() string { out, _ := c.Run("logs", id); return out })
	return id
}

// Later removes a container when the test ends.
func (c Client) Later(t *testing.T, id string) {
	t.Cleanup(func() {
		if _, err := c.Run(append(c.Remove, id)...); err != nil {
			t.Error(err)
		}
	})
}

// Said is what a command is given and what it has to say.
type Said struct {
	Input string
	Code  int
	// Out and Errs are what it prints; of the latter a part is enough.
	Out, Errs string
}

// Check runs a command to its end.
func (c Client) Check(t *testing.T, want Said, args ...string) {
	t.Helper()
	cmd := c.Command(args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(want.Input), &out, &errs
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != want.Code || out.String() != want.Out || !strings.Contains(errs.String(), want.Errs) {
		t.Errorf("%s %s ends with %d, prints %q and %q; want %+v", c.Name, strings.Join(args, " "), got, &out, &errs, want)
	}
}

// Type runs a command in a terminal of 33 rows and 77 columns, types a line, and
// wants a text to appear and the command to end with a code.
func (c Client) Type(t *testing.T, line, text string, code int, args ...string) {
	t.Helper()
	cmd := c.Command(args...)
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 77})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	ended := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		_, _ = io.Copy(&all, terminal)
		ended <- all.String()
	}()
	if _, err := terminal.WriteString(line); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-ended:
		if !strings.Contains(got, text) {
			t.Errorf("the terminal shows %q", got)
		}
	case <-time.After(Patience):
		t.Error("the command does not end")
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("it ends with %d", got)
	}
}

// OwnKernel wants the boot of a container to be another than the host's, and than
// another container's. run makes the arguments that run a command.
func (c Client) OwnKernel(t *testing.T, run func(flags, command []string) []string) {
	t.Helper()
	const file = "/proc/sys/kernel/random/boot_id"
	ours, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	one, other := c.Must(t, run(nil, []string{"cat", file})...), c.Must(t, run(nil, []string{"cat", file})...)
	if len(one) != 36 || len(other) != 36 || one == other || one == strings.TrimSpace(string(ours)) {
		t.Errorf("the kernels were booted as %q and %q, the host's as %q", one, other, ours)
	}
}

// Eventually waits until something holds, which says what it is instead.
func Eventually(t *testing.T, what string, holds func() (string, bool)) {
	t.Helper()
	begin := time.Now()
	for {
		is, ok := holds()
		if ok {
			return
		}
		if time.Since(begin) > Patience {
			t.Fatalf("waited in vain: %s: %s", what, is)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// Serves waits until a web server answers with a text.
func Serves(t *testing.T, url, text string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	Eventually(t, url, func() (string, bool) {
		resp, err := client.Get(url)
		if err != nil {
			return err.Error(), false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return fmt.Sprint(string(body), err), string(body) == text
	})
}
