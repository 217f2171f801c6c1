package pool

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// server answers each request by a function, as a keeper would.
type server struct {
	*Client
	place *Place

	mu   sync.Mutex
	seen []Request
}

func serve(t *testing.T, state string, answer func(c *net.UnixConn, r Request)) *server {
	t.Helper()
	s := &server{Client: &Client{State: state, Scope: "here", Limits: Limits{Size: 2, MemoryMiB: 9, Idle: time.Hour}}, place: take(t, state)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := s.place.Listener.AcceptUnix()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				var r Request
				if _, err := Receive(conn, &r); err != nil {
					return
				}
				s.mu.Lock()
				s.seen = append(s.seen, r)
				s.mu.Unlock()
				answer(conn, r)
			})
		}
	})
	t.Cleanup(func() {
		s.place.Leave()
		all.Wait()
	})
	return s
}

// requests are those so far.
func (s *server) requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// says answers everything in the same way.
func says(r Response, files ...*os.File) func(*net.UnixConn, Request) {
	return func(c *net.UnixConn, _ Request) { _ = Send(c, r, files...) }
}

func TestClaimOfTheClient(t *testing.T) {
	write, _ := pipes(t, 2)
	s := serve(t, t.TempDir(), says(Response{PID: 42}, write...))
	kind := Kind{Key: "k", Recipe: []byte(`{}`)}
	lot, err := s.Claim(t.Context(), kind)
	if err != nil || lot.PID != 42 || len(lot.Files) != 2 {
		t.Fatalf("%+v, %v", lot, err)
	}
	closeAll(lot.Files)
	want := []Request{{Op: OpClaim, Scope: "here", Limits: s.Limits, Kind: &kind}}
	if diff := cmp.Diff(want, s.requests()); diff != "" {
		t.Error(diff)
	}
}

// TestClaimsWithoutAMachine are all misses, and tell their causes apart.
func TestClaimsWithoutAMachine(t *testing.T) {
	write, read := pipes(t, 1)
	for name, c := range map[string]struct {
		answer func(*net.UnixConn, Request)
		want   string
		cause  bool
	}{
		"none":         {says(Response{Miss: "none is ready"}), "none is ready", false},
		"refusal":      {says(Response{Error: "it is another's"}), "it is another's", true},
		"files of one": {says(Response{Miss: "changed its mind"}, write...), "changed its mind", false},
		"nonsense":     {func(c *net.UnixConn, _ Request) { _, _ = c.Write([]byte("\x00\x00\x00\x01x")) }, errMessage.Error(), true},
		"no answer":    {func(*net.UnixConn, Request) {}, "EOF", true},
		"silence":      {func(c *net.UnixConn, _ Request) { _, _ = c.Read(make([]byte, 1)) }, context.DeadlineExceeded.Error(), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, t.TempDir(), c.answer)
			lot, err := s.Claim(t.Context(), Kind{Key: "k", Recipe: []byte(`{}`)})
			miss, ok := errors.AsType[*MissError](err)
			if lot != nil || !ok || !strings.Contains(miss.Error(), c.want) || (errors.Unwrap(miss) != nil) != c.cause || errdefs.IsNotFound(err) {
				t.Errorf("%+v, %v", lot, err)
			}
		})
	}
	// What came with a miss was closed.
	closeAll(write)
	_ = read[0].SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := read[0].Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("a file is still open: %v", err)
	}
}

func TestNobodyKeepsAPool(t *testing.T) {
	c := &Client{State: t.TempDir()}
	asked := func(name string) {
		t.Helper()
		_, claim := c.Claim(t.Context(), Kind{Recipe: []byte(`{}`)})
		_, status := c.Status(t.Context())
		_, stop := c.Stop(t.Context())
		for _, err := range []error{claim, status, stop} {
			if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), c.State) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	asked("never")
	killed(t, c.State)
	asked("not any more")
}

// TestKeeperThatIsComingUp is waited for by those who want something of it.
func TestKeeperThatIsComingUp(t *testing.T) {
	state := t.TempDir()
	asked := make(chan error, 1)
	go func() { asked <- (&Client{State: state}).Want(t.Context(), Kind{Key: "k", Recipe: []byte(`{}`)}) }()
	s := serve(t, state, says(Response{Status: &Status{PID: 1}}))
	err := <-asked
	if seen := s.requests(); err != nil || len(seen) != 1 || seen[0].Op != OpWant {
		t.Errorf("%v, %+v", err, seen)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("never mind"))
	if _, err := (&Client{State: t.TempDir()}).Fill(ctx, Kind{Recipe: []byte(`{}`)}); err == nil || !strings.Contains(err.Error(), "never mind") {
		t.Errorf("one who gives up gets %v", err)
	}
}

func TestStatusOfTheClient(t *testing.T) {
	want := &Status{PID: 1, Hits: 2, Misses: 3, Waiting: []Waiting{{PID: 4, Kind: "k"}}}
	s := serve(t, t.TempDir(), says(Response{Status: want}))
	got, err := s.Status(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	empty := serve(t, t.TempDir(), says(Response{}))
	if _, err := empty.Status(t.Context()); !errors.Is(err, errMessage) {
		t.Errorf("an answer without a state: %v", err)
	}
}

// TestStopWaits until the keeper has let go of everything.
func TestStopWaits(t *testing.T) {
	state := t.TempDir()
	stopping := make(chan struct{})
	s := serve(t, state, func(c *net.UnixConn, _ Request) {
		_ = Send(c, Response{Status: &Status{PID: 1}})
		close(stopping)
	})
	stopped := make(chan error, 1)
	go func() {
		_, err := s.Stop(t.Context())
		stopped <- err
	}()
	<-stopping
	select {
	case err := <-stopped:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.place.Leave()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	again := serve(t, t.TempDir(), says(Response{Status: &Status{}}))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := again.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a keeper that does not end: %v", err)
	}
}

// TestEnsure starts a keeper where there is none, with nothing of its starter's
// but the log.
func TestEnsure(t *testing.T) {
	c := &Client{State: t.TempDir()}
	out := filepath.Join(c.State, "out")
	script := `echo "$1 $PWD $(cut -d ' ' -f 6 /proc/self/stat | cat) $$" >` + out + `.new; mv ` + out + `.new ` + out + `; echo logged`
	if err := c.Ensure("/bin/sh", "-c", script, "sh", "argument"); err != nil {
		t.Fatal(err)
	}
	var text string
	for begin := time.Now(); text == ""; time.Sleep(time.Millisecond) {
		data, _ := os.ReadFile(out)
		if text = string(data); time.Since(begin) > time.Minute {
			t.Fatal("no program was started")
		}
	}
	// It leads a session of its own.
	if f := strings.Fields(text); len(f) != 4 || f[0] != "argument" || f[1] != "/" || f[2] != f[3] {
		t.Errorf("it says %q", text)
	}
	log := filepath.Join(Dir(c.State), logName)
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		if data, _ := os.ReadFile(log); string(data) == "logged\n" {
			break
		} else if time.Since(begin) > time.Minute {
			t.Fatalf("the log has %q", data)
		}
	}
	s := serve(t, t.TempDir(), says(Response{}))
	if err := s.Ensure("/none/here"); err != nil {
		t.Errorf("where there is a keeper: %v", err)
	}
	if err := c.Ensure("/none/here"); err == nil || !strings.Contains(err.Error(), "/none/here") {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestNetNS(t *testing.T) {
	var want unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &want); err != nil {
		t.Fatal(err)
	}
	if got, err := NetNS(); err != nil || got != want.Ino || got == 0 {
		t.Errorf("%d, %v, want %d", got, err, want.Ino)
	}
}
