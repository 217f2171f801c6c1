package vm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// sandbox starts a container that does nothing for others to exec in.
func (in *installation) sandbox(flags ...string) (name string) {
	in.t.Helper()
	in.must(append(append([]string{"run", "-d", "--rm", "--name", "box", "--init"}, flags...), busybox(), "sleep", "10000")...)
	in.t.Cleanup(func() { in.must("rm", "-f", "box") })
	return "box"
}

// TestHalfClose ends standard input while output goes on.
func TestHalfClose(t *testing.T) {
	in := install(t)
	r := in.with(strings.NewReader("some input\n"), "run", "--rm", "-i", busybox(), "sh", "-c", "cat; echo after the end; wc -c < /bin/busybox > /dev/null; echo error >&2")
	if r.code != 0 || r.stdout != "some input\nafter the end\n" || r.stderr != "error\n" {
		t.Error(r)
	}
}

// TestExecStreams checks the small cases of stdio in one sandbox.
func TestExecStreams(t *testing.T) {
	in := install(t)
	box := in.sandbox()
	t.Run("no input is an ended input", func(t *testing.T) {
		r := in.with(strings.NewReader("not for it"), "exec", box, "wc", "-c")
		if r.code != 0 || r.stdout != "0\n" {
			t.Error(r)
		}
	})
	t.Run("half close", func(t *testing.T) {
		r := in.with(strings.NewReader("12345"), "exec", "-i", box, "sh", "-c", "wc -c; echo after")
		if r.code != 0 || r.stdout != "5\nafter\n" {
			t.Error(r)
		}
	})
	t.Run("burst and exit", func(t *testing.T) {
		const size = 8 << 20
		r := in.dougong("exec", box, "sh", "-c", "head -c 8388608 /dev/zero; head -c 8388608 /dev/zero >&2; exit 3")
		if r.code != 3 || len(r.stdout) != size || len(r.stderr) != size {
			t.Errorf("exit code %d, %d and %d bytes, want 3 and %d each", r.code, len(r.stdout), len(r.stderr), size)
		}
	})
	t.Run("input that is not read", func(t *testing.T) {
		r := in.with(io.LimitReader(rand.NewChaCha8([32]byte{}), 8<<20), "exec", "-i", box, "sh", "-c", "head -c 3 > /dev/null; exit 4")
		if r.code != 4 {
			t.Error(r)
		}
	})
	t.Run("reader goes away", func(t *testing.T) {
		cmd := in.command("exec", box, "yes")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		_ = out.Close()
		if err := cmd.Wait(); err == nil {
			t.Error("'yes' ended well though nobody reads it")
		}
		if ps := in.must("exec", box, "ps"); strings.Contains(ps, "yes") {
			t.Errorf("it runs on:\n%s", ps)
		}
	})
	t.Run("hung reader", func(t *testing.T) { hungReader(t, in, box) })
	t.Run("descriptors", func(t *testing.T) { steadyDescriptors(t, in, box) })
}

// hungReader lets the output of one command wait, and runs others meanwhile.
func hungReader(t *testing.T, in *installation, box string) {
	cmd := in.command("exec", box, "sh", "-c", "echo begin; head -c 50000000 /dev/zero; echo end >&2")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("begin\n"))); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := in.must("exec", box, "echo", "not blocked"); got != "not blocked" {
			t.Errorf("output %q", got)
		}
	}
	if n := in.one("shim").peakKiB(t); n > 48<<10 {
		t.Errorf("the sandbox process took %d KiB to hold output that is not read", n)
	}
	n, err := io.Copy(io.Discard, out)
	if werr := cmd.Wait(); n != 50000000 || err != nil || werr != nil || stderr.String() != "end\n" {
		t.Errorf("%d bytes came in the end (%v, %v, %q)", n, err, werr, &stderr)
	}
}

// steadyDescriptors counts what the long-lived processes have open.
func steadyDescriptors(t *testing.T, in *installation, box string) {
	count := func() string {
		in.must("exec", box, "true")
		return fmt.Sprintf("shim %d, qemu %d", in.one("shim").openFiles(t), in.one("qemu").openFiles(t))
	}
	before := count()
	for range 10 {
		in.dougong("exec", box, "false")
		in.dougong("exec", box, "no-such-command")
	}
	// What a call that was just answered had open may be closed a moment later.
	after := ""
	eventually(t, "as many descriptors as before: "+before, func() bool { after = count(); return after == before })
}

// TestStream carries much data through cat, both ways at once.
func TestStream(t *testing.T) {
	in := install(t)
	size := int64(256 << 20)
	if suite.long {
		size = 1 << 30
	}
	cmd := in.command("run", "--rm", "-i", busybox(), "cat")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sent, sendError := sha256.New(), make(chan error, 1)
	go func() {
		_, err := io.Copy(stdin, io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent))
		sendError <- err
	}()
	got := sha256.New()
	n, err := io.CopyN(got, stdout, size)
	if err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	if err := <-sendError; err != nil {
		t.Fatal(err)
	}
	// All is through and all processes are still there: ask what it took.
	for kind, most := range map[string]int{"dougong": 64 << 10, "shim": 48 << 10} {
		if n := in.one(kind).peakKiB(t); n > most {
			t.Errorf("%s took %d KiB, want at most %d", kind, n, most)
		} else {
			t.Logf("%s took %d KiB", kind, n)
		}
	}
	endStream(t, cmd, stdin, stdout)
	if !sameSum(sent, got) {
		t.Error("other bytes came back than were sent")
	}
}

func endStream(t *testing.T, cmd *exec.Cmd, stdin io.Closer, stdout io.Reader) {
	t.Helper()
	_ = stdin.Close()
	if n, err := io.Copy(io.Discard, stdout); n != 0 || err != nil {
		t.Errorf("%d bytes too many, %v", n, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func sameSum(a, b hash.Hash) bool { return bytes.Equal(a.Sum(nil), b.Sum(nil)) }
