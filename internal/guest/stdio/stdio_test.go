package stdio

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dougong.dev/dougong/internal/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host has the far ends of streams, by id.
type host struct {
	*testing.T
	ends map[string]net.Conn
}

func newHost(t *testing.T) *host {
	h := &host{T: t, ends: make(map[string]net.Conn)}
	t.Cleanup(func() {
		for _, c := range h.ends {
			_ = c.Close()
		}
	})
	return h
}

// Wait implements streams.
func (h *host) Wait(_ context.Context, id string) (net.Conn, error) {
	if id == "gone" {
		return nil, errors.New("no such stream")
	}
	near, far := net.Pipe()
	h.ends[id] = far
	return near, nil
}

func (h *host) open(spec Spec) *Set {
	h.Helper()
	s, err := Open(h.Context(), h, spec)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = s.Close() })
	return s
}

// run starts a shell script with the streams of s.
func (h *host) run(s *Set, script string) *exec.Cmd {
	h.Helper()
	cmd := exec.Command("sh", "-c", script)
	s.Set(cmd)
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	if err := s.CloseAfterStart(); err != nil {
		h.Fatal(err)
	}
	s.Begin()
	return cmd
}

// read collects a stream until its end, in the background.
func (h *host) read(id string) <-chan string {
	c := make(chan string, 1)
	conn := h.ends[id]
	go func() {
		data, err := io.ReadAll(transport.NewStreamReader(conn))
		if err != nil {
			data = append(data, " error: "+err.Error()...)
		}
		_ = conn.Close()
		c <- string(data)
	}()
	return c
}

func TestThreeStreams(t *testing.T) {
	h := newHost(t)
	s := h.open(Spec{Stdin: "0", Stdout: "1", Stderr: "2"})
	cmd := h.run(s, "cat; echo err >&2")
	out, errs := h.read("1"), h.read("2")
	in := transport.NewStreamWriter(h.ends["0"])
	_, _ = io.WriteString(in, "half-")
	_, _ = io.WriteString(in, "close")
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s.Drain(time.Minute)
	if o, e := <-out, <-errs; o != "half-close" || e != "err\n" {
		t.Errorf("%q, %q", o, e)
	}
}

func TestNull(t *testing.T) {
	h := newHost(t)
	s := h.open(Spec{})
	if err := h.run(s, "cat; echo x; echo y >&2").Wait(); err != nil {
		t.Fatal(err)
	}
	s.Drain(time.Minute)
}

// What was in the pipe when the process died comes out, and somebody else who
// holds the pipe is not waited for.
func TestDrainWithHolder(t *testing.T) {
	h := newHost(t)
	s := h.open(Spec{Stdout: "1"})
	cmd := h.run(s, "head -c 50000 /dev/zero; sleep 2 &")
	conn := h.ends["1"]
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	// The host begins to read only after the grace is over.
	drained := make(chan struct{})
	go func() { s.Drain(time.Millisecond); close(drained) }()
	select {
	case <-drained:
		t.Fatal("drained without a reader")
	case <-time.After(50 * time.Millisecond):
	}
	data, err := io.ReadAll(transport.NewStreamReader(conn))
	if len(data) != 50000 || err != nil {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	<-drained
}

// A host that hangs up does not stop the process.
func TestHostHangsUp(t *testing.T) {
	h := newHost(t)
	s := h.open(Spec{Stdout: "1"})
	cmd := h.run(s, "head -c 10000000 /dev/zero; exit 5")
	_, _ = io.ReadFull(h.ends["1"], make([]byte, 10))
	_ = h.ends["1"].Close()
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 5 {
		t.Errorf("process ends with %v", err)
	}
	s.Drain(time.Minute)
}

// A process that takes no more input closes the stream for the host.
func TestInputRefused(t *testing.T) {
	h := newHost(t)
	s := h.open(Spec{Stdin: "0"})
	cmd := h.run(s, "exec <&-; sleep 1")
	w := transport.NewStreamWriter(h.ends["0"])
	var err error
	for chunk := make([]byte, 64<<10); err == nil; {
		_, err = w.Write(chunk)
	}
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	_ = cmd.Wait()
}

func TestCloseStdin(t *testing.T) {
	h := newHost(t)
	s := h.open(Spec{Stdin: "0", Stdout: "1"})
	cmd := h.run(s, "cat; echo done")
	out := h.read("1")
	s.CloseStdin()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s.Drain(time.Minute)
	if got := <-out; got != "done\n" {
		t.Errorf("%q", got)
	}
}

// When one stream does not come, those that came are closed.
func TestOpenFails(t *testing.T) {
	h := newHost(t)
	if _, err := Open(t.Context(), h, Spec{Stdin: "0", Stdout: "1", Stderr: "gone"}); err == nil {
		t.Fatal("no error")
	}
	for id, conn := range h.ends {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("stream %s is still open: %v", id, err)
		}
	}
}

func TestChown(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	h := newHost(t)
	s := h.open(Spec{Stdout: "1"})
	if err := s.Chown(33, 34); err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint32{0, 33, 0} {
		info, err := s.child[i].Stat()
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != want {
			t.Errorf("stream %d belongs to %d, want %d", i, got, want)
		}
	}
}

func TestResizeWithoutTerminal(t *testing.T) {
	if err := newHost(t).open(Spec{}).Resize(1, 1); err == nil || !strings.Contains(err.Error(), "no terminal") {
		t.Errorf("got %v", err)
	}
}
