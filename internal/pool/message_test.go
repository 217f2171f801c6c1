package pool

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// connected are two ends of a connection.
func connected(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, to := range []**net.UnixConn{&a, &b} {
		f := os.NewFile(uintptr(fds[i]), "socket")
		conn, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		*to = conn.(*net.UnixConn)
		t.Cleanup(func() { _ = conn.Close() })
	}
	if err := errors.Join(a.SetDeadline(time.Now().Add(time.Minute)), b.SetDeadline(time.Now().Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// pipes are the writing ends of pipes, and the reading ends, by which the others
// are known again.
func pipes(t *testing.T, n int) (write, read []*os.File) {
	t.Helper()
	for range n {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read, write = append(read, r), append(write, w)
		t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	}
	return write, read
}

func TestMessages(t *testing.T) {
	kind := Kind{Key: "k", Description: "d", NetNS: 7, Recipe: []byte(`{"a":1}`)}
	for name, want := range map[string]struct {
		request Request
		files   int
	}{
		"nothing":    {},
		"a claim":    {Request{Op: OpClaim, Scope: "s", Limits: Limits{1, 2, 3}, Kind: &kind}, 0},
		"with files": {Request{Op: OpClaim}, 10},
		"all files":  {Request{}, maxFiles},
		// More than the socket takes at once.
		"a long one": {Request{Op: strings.Repeat("x", maxMessage-200)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := connected(t)
			write, read := pipes(t, want.files)
			sent := make(chan error, 1)
			go func() { sent <- Send(a, want.request, write...) }()
			var got Request
			files, err := Receive(b, &got)
			if err := errors.Join(err, <-sent); err != nil {
				t.Fatal(err)
			}
			defer closeAll(files)
			if diff := cmp.Diff(want.request, got); diff != "" || len(files) != want.files {
				t.Errorf("%d files; %s", len(files), diff)
			}
			for i, f := range files {
				if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("file %d would be inherited: %v", i, err)
				}
				if _, err := f.WriteString(string(rune('a' + i))); err != nil {
					t.Error(err)
				}
				var one [1]byte
				if _, err := read[i].Read(one[:]); err != nil || one[0] != byte('a'+i) {
					t.Errorf("file %d is another: %q, %v", i, one, err)
				}
			}
		})
	}
}

// TestReceiveRefuses what is no message, and keeps none of the files that came
// with it.
func TestReceiveRefuses(t *testing.T) {
	head := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"too long":  {append(head(maxMessage+1), "{}"...), errMessage},
		"no JSON":   {append(head(3), "abc"...), errMessage},
		"wrong":     {append(head(10), `{"op":[1]}`...), errMessage},
		"cut short": {append(head(9), "{}"...), io.ErrUnexpectedEOF},
		"no body":   {head(2), io.EOF},
		"half head": {head(2)[:3], io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := connected(t)
			write, read := pipes(t, 1)
			if _, _, err := a.WriteMsgUnix(c.data, unix.UnixRights(int(write[0].Fd())), nil); err != nil {
				t.Fatal(err)
			}
			_, _ = a.Close(), write[0].Close()
			var r Request
			if files, err := Receive(b, &r); !errors.Is(err, c.want) || files != nil {
				t.Errorf("%v, %v, want %v", files, err, c.want)
			}
			// With the last writing end gone the pipe ends.
			_ = read[0].SetReadDeadline(time.Now().Add(time.Minute))
			if n, err := read[0].Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("the file that came along is still open: %v", err)
			}
		})
	}
	a, b := connected(t)
	_ = a.Close()
	if _, err := Receive(b, new(Request)); !errors.Is(err, io.EOF) {
		t.Errorf("a connection that was closed: %v", err)
	}
}

func TestSendRefuses(t *testing.T) {
	a, _ := connected(t)
	write, _ := pipes(t, 1)
	_ = write[0].Close()
	if err := Send(a, Request{}, write[0]); err == nil || !strings.Contains(err.Error(), "send files") {
		t.Errorf("a file that is closed: %v", err)
	}
	if err := Send(a, func() {}); err == nil || !strings.Contains(err.Error(), "encode") {
		t.Errorf("what is no message: %v", err)
	}
}

// FuzzReceive reads whatever may come: it ends, and takes no more than a message.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}rest"), 1)
	f.Add([]byte("\x00\x00\x00\x10"+`{"op":"claim"}  `), 0)
	f.Add([]byte("\xff\xff\xff\xff"), 3)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, data []byte, files int) {
		a, b := connected(t)
		files = min(max(files, 0), maxFiles)
		var rights []byte
		if files > 0 {
			fds := make([]int, files)
			rights = unix.UnixRights(fds...)
		}
		if len(data) > 0 {
			// What the socket does not take is cut off.
			_ = a.SetWriteDeadline(time.Now().Add(time.Second))
			_, _, _ = a.WriteMsgUnix(data, rights, nil)
		}
		_ = a.Close()
		var r Request
		got, err := Receive(b, &r)
		if err != nil {
			if got != nil {
				t.Errorf("%d files and %v", len(got), err)
			}
			return
		}
		closeAll(got)
		if len(got) != files {
			t.Errorf("%d files, want %d", len(got), files)
		}
		size := binary.BigEndian.Uint32(data)
		rest, err := io.ReadAll(b)
		if err != nil || len(rest) != len(data)-4-int(size) {
			t.Errorf("of %d bytes with a message of %d there are %d left, %v", len(data), size, len(rest), err)
		}
	})
}
