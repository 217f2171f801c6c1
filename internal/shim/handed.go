package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/handover"
	"dougong.dev/dougong/internal/sandbox"
)

// proxy is the far end of a process of the host that stands for one in the
// sandbox and belongs to whoever runs the OCI commands; see standin.Left.
type proxy struct {
	pid int
	// line carries signals to us, and an exit status back.
	line net.Conn
	// terminal, when there is one, is where the size comes from, and lock, when
	// there is one, the sign of life of a container that has joined others.
	terminal, lock *os.File
	// mounts is the mount namespace of the command, until the container is made.
	mounts *os.File

	once sync.Once

	showing sync.Mutex
	shown   []*child.Process
}

// openStreams opens the standard streams that a request names, and returns the
// proxy of its process where one was handed over with them.
func (s *Service) openStreams(ctx context.Context, u URIs) (sandbox.Stdio, *proxy, error) {
	p, err := s.handed.Take(u.Stdin)
	if err != nil {
		return sandbox.Stdio{}, nil, fmt.Errorf("standard streams: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if p == nil {
		stdio, err := OpenStdio(ctx, u)
		return stdio, nil, err
	}
	x, err := newProxy(p)
	if err != nil {
		p.Close()
		return sandbox.Stdio{}, nil, err
	}
	return streamsOf(p.Files), x, nil
}

func newProxy(p *handover.Package) (*proxy, error) {
	line := p.Files[handover.Line]
	if line == nil {
		return nil, nil
	}
	conn, err := net.FileConn(line)
	if err != nil {
		return nil, fmt.Errorf("use the line to process %d: %w", p.PID, err)
	}
	_ = line.Close()
	return &proxy{pid: p.PID, line: conn, terminal: p.Files[handover.Terminal], lock: p.Files[handover.Lock], mounts: p.Files[handover.Mounts]}, nil
}

// streamsOf makes standard streams of files. A terminal is all three.
func streamsOf(files map[string]*os.File) sandbox.Stdio {
	var stdio sandbox.Stdio
	in, out := files[handover.Stdin], files[handover.Stdout]
	if t := files[handover.Terminal]; t != nil {
		in, out = duplicate(t), duplicate(t)
	}
	if in != nil {
		stdio.Stdin = own(in, unix.O_RDONLY)
	}
	if out != nil {
		stdio.Stdout = own(out, unix.O_WRONLY)
	}
	if f := files[handover.Stderr]; f != nil {
		stdio.Stderr = own(f, unix.O_WRONLY)
	}
	return stdio
}

// duplicate returns a second descriptor, nil when there is none to be had.
func duplicate(f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		slog.Error("duplicate a descriptor", "error", err)
		return nil
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// own opens a pipe or terminal once more, for us alone: then waiting for it can
// be cut short, which takes a flag that the others who have it open would see
// too. Other files are taken as they are.
func own(f *os.File, mode int) *os.File {
	info, err := f.Stat()
	if err != nil || info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) == 0 {
		return f
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), mode|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		// A pipe without a reader, for example.
		return f
	}
	_ = f.Close()
	return os.NewFile(uintptr(fd), f.Name())
}

// represent ties a process to its proxy.
func (s *Service) represent(key processKey, p *sandbox.Process, x *proxy) {
	if x == nil {
		return
	}
	s.mu.Lock()
	if s.proxies == nil {
		s.proxies = make(map[processKey]*proxy)
	}
	s.proxies[key] = x
	sb := s.sandbox
	s.mu.Unlock()
	sb.Adopt(x.pid)
	go x.follow(p)
	if key.execID == "" {
		// The sandbox goes first; see Standalone.
		return
	}
	s.watches.Go(func() {
		<-p.Exited()
		status, _, _ := p.Exit()
		x.tell(status)
		s.mu.Lock()
		delete(s.proxies, key)
		s.mu.Unlock()
	})
}

func (s *Service) proxy(id, execID string) *proxy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proxies[processKey{id, execID}]
}

// tellInit ends the process that stands for a container, if there is one.
func (s *Service) tellInit(id string, status uint32) {
	key := processKey{id, ""}
	s.mu.Lock()
	x := s.proxies[key]
	delete(s.proxies, key)
	s.mu.Unlock()
	if x != nil {
		x.tell(status)
	}
}

// follow hands on what the proxy sends. Its end is that of the process.
func (x *proxy) follow(p *sandbox.Process) {
	x.resize(p)
	number := make([]byte, 1)
	for {
		if _, err := x.line.Read(number); err != nil {
			break
		}
		if unix.Signal(number[0]) == unix.SIGWINCH {
			x.resize(p)
			continue
		}
		x.kill(p, uint32(number[0]))
	}
	select {
	case <-p.Exited():
	default:
		x.kill(p, uint32(unix.SIGKILL))
	}
}

func (x *proxy) kill(p *sandbox.Process, number uint32) {
	if err := p.Kill(context.Background(), number, false); err != nil && !errdefs.IsNotFound(err) {
		slog.Warn("hand a signal on", "pid", x.pid, "signal", number, "error", err)
	}
}

// resize gives the process's terminal the size of ours.
func (x *proxy) resize(p *sandbox.Process) {
	if x == nil || x.terminal == nil {
		return
	}
	size, err := unix.IoctlGetWinsize(int(x.terminal.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 && size.Row == 0 {
		return
	}
	if err := p.Resize(context.Background(), uint32(size.Col), uint32(size.Row)); err != nil {
		slog.Debug("resize terminal", "pid", x.pid, "error", err)
	}
}

// tell ends the proxy with an exit status.
func (x *proxy) tell(status uint32) {
	x.once.Do(func() {
		if x.terminal != nil {
			_ = x.terminal.Close()
		}
		x.showing.Lock()
		x.hide()
		x.showing.Unlock()
		if _, err := x.line.Write([]byte{byte(status)}); err != nil {
			slog.Debug("tell an exit status", "pid", x.pid, "error", err)
		}
		_ = x.line.Close()
		_ = closeFile(x.lock)
	})
}

// drop lets go of a proxy whose process could not be made.
func (x *proxy) drop() error {
	if x == nil {
		return nil
	}
	return errors.Join(x.line.Close(), closeFile(x.terminal), closeFile(x.lock), closeFile(x.mounts))
}

func closeFile(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

func logDropped(err error) {
	if err != nil {
		slog.Debug("let go of a stand-in", "error", err)
	}
}
