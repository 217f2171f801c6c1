package handover

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/socket"
)

// desk serves a desk on a socket.
func desk(t *testing.T) (*Desk, string) {
	t.Helper()
	dir := t.TempDir()
	listener, err := socket.Listen(dir, "files.sock")
	if err != nil {
		t.Fatal(err)
	}
	d, done := new(Desk), make(chan struct{})
	go func() {
		defer close(done)
		d.Serve(listener)
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	return d, filepath.Join(dir, "files.sock")
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func TestFilesArriveByName(t *testing.T) {
	d, path := desk(t)
	out, theirOut := pipe(t)
	errs, theirErrs := pipe(t)
	p := &Package{PID: 42, Files: map[string]*os.File{Stdout: theirOut, Stderr: theirErrs}}
	sent, err := Send(path, p)
	if err != nil {
		t.Fatal(err)
	}
	defer sent.Close()
	_, _ = theirOut.Close(), theirErrs.Close()
	got, err := d.Take(p.URI())
	if err != nil || got == nil {
		t.Fatalf("took %v, %v", got, err)
	}
	if got.PID != 42 || len(got.Files) != 2 {
		t.Errorf("took %+v", got)
	}
	if _, err := d.Take(p.URI()); err == nil {
		t.Error("a package is there twice")
	}
	for name, text := range map[string]string{Stdout: "out", Stderr: "err"} {
		if _, err := got.Files[name].WriteString(text); err != nil {
			t.Fatal(err)
		}
		flags, err := unix.FcntlInt(got.Files[name].Fd(), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s stays open in children: %#x, %v", name, flags, err)
		}
	}
	got.Close()
	for want, r := range map[string]*os.File{"out": out, "err": errs} {
		if data, err := io.ReadAll(r); string(data) != want || err != nil {
			t.Errorf("read %q, %v, want %q", data, err, want)
		}
	}
}

func TestFilesNobodyTakesAreClosed(t *testing.T) {
	d, path := desk(t)
	out, theirs := pipe(t)
	p := &Package{Files: map[string]*os.File{Stdout: theirs}}
	sent, err := Send(path, p)
	if err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	_ = sent.Close()
	_ = out.SetReadDeadline(time.Now().Add(20 * time.Second))
	if data, err := io.ReadAll(out); len(data) != 0 || err != nil {
		t.Errorf("read %q, %v", data, err)
	}
	if _, err := d.Take(p.URI()); err == nil {
		t.Error("they are still to be had")
	}
}

func TestTakeOfOtherURIs(t *testing.T) {
	for _, uri := range []string{"", "/run/fifo", "file:///x"} {
		if p, err := (*Desk)(nil).Take(uri); p != nil || err != nil {
			t.Errorf("%q gives %v, %v", uri, p, err)
		}
	}
	if _, err := (*Desk)(nil).Take(scheme + "x"); err == nil {
		t.Error("where no files are taken, some are found")
	}
}

func TestSendErrors(t *testing.T) {
	if _, err := Send(filepath.Join(t.TempDir(), "files.sock"), &Package{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a desk: %v", err)
	}
}

// FuzzReceive sends what no Send has made.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"token":"0123456789abcdef0123456789abcdef","names":["stdin"],"pid":1}`), 1)
	f.Add([]byte(`{"token":"0123456789abcdef0123456789abcdef","names":[]}`), 0)
	f.Add([]byte(`{}`), 2)
	f.Add([]byte(`{"names":["a","a","a"],"token":"0123456789abcdef0123456789abcdef"}`), 3)
	f.Fuzz(func(t *testing.T, header []byte, files int) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		var conns [2]*net.UnixConn
		for i, fd := range fds {
			file := os.NewFile(uintptr(fd), "pair")
			conn, err := net.FileConn(file)
			_ = file.Close()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conns[i] = conn.(*net.UnixConn)
		}
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		rights := make([]int, max(0, files%(maxFiles+2)))
		for i := range rights {
			rights[i] = int(null.Fd())
		}
		if _, _, err := conns[0].WriteMsgUnix(append(header, ' '), unix.UnixRights(rights...), nil); err != nil {
			return
		}
		p, err := read(conns[1])
		if err != nil {
			return
		}
		defer p.Close()
		if len(p.Files) > maxFiles || len(p.Token) != 32 {
			t.Errorf("%q with %d files became %+v", header, len(rights), p)
		}
	})
}
