package standin

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// lineFile is the descriptor of a stand-in's line; 3 says that it is ready.
const lineFile = 4

// Left is a stand-in that does not belong to the sandbox process: whoever
// started it may go, and then it is its caller's child. It ends as the process
// does that it stands for, and hands signals on.
//
// On its line, a socket, it sends each signal as a byte, and is sent one: the
// exit status to end with. Without that byte it ends as if killed, and its own end
// closes the line.
type Left struct {
	cmd *exec.Cmd
	// Line is the other end of the line.
	Line *os.File
}

// Leave starts program as a stand-in. With a terminal it leads a session of
// which that is the controlling terminal. Where Users have no way to the root
// directory, which what it stands for does not need, it goes without them.
func (s Spec) Leave(program string, terminal *os.File) (*Left, error) {
	left, err := s.leave(program, terminal)
	if err != nil && s.Users != nil {
		s.Users = nil
		return s.leave(program, terminal)
	}
	return left, err
}

func (s Spec) leave(program string, terminal *os.File) (*Left, error) {
	s.Lined = true
	how, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("start stand-in: %w", err)
	}
	ready, theirReady, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start stand-in: %w", err)
	}
	defer ready.Close()
	defer theirReady.Close()
	line, theirLine, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("start stand-in: %w", err)
	}
	defer theirLine.Close()
	cmd := &exec.Cmd{
		Path: program, Args: shorten(s.Args), Env: []string{"GOMAXPROCS=1", envName + "=" + string(how)},
		ExtraFiles: []*os.File{theirReady, theirLine}, SysProcAttr: s.namespaces(),
	}
	cmd.SysProcAttr.Setsid = true
	if terminal != nil {
		cmd.Stdin, cmd.SysProcAttr.Setctty = terminal, true
	}
	if err := s.begin(cmd.Start); err != nil {
		_ = line.Close()
		return nil, fmt.Errorf("start stand-in: %w", err)
	}
	_ = theirReady.Close()
	left := &Left{cmd: cmd, Line: line}
	_ = ready.SetReadDeadline(time.Now().Add(startTimeout))
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		left.Kill()
		return nil, fmt.Errorf("stand-in of process %q with root %s does not come up: %w", s.Args, s.Root, err)
	}
	return left, nil
}

// PID returns the process id.
func (l *Left) PID() int { return l.cmd.Process.Pid }

// Kill ends the stand-in and waits until it is gone.
func (l *Left) Kill() {
	_ = l.Line.Close()
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait()
}

// Wait waits for the end of the stand-in.
func (l *Left) Wait() { _ = l.cmd.Wait() }

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "line"), os.NewFile(uintptr(fds[1]), "line"), nil
}

// catch takes all signals that there is somebody to hand on to.
func catch() <-chan os.Signal {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	// These are about this process. The first of a namespace gets no others.
	signal.Reset(unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, unix.SIGTTIN, unix.SIGTTOU, unix.SIGTSTP, unix.SIGCONT)
	signal.Ignore(unix.SIGPIPE)
	return signals
}

// killedStatus is the exit status of a process that was killed.
const killedStatus = 128 + 9

// serveLine hands signals on until it is told the exit status.
func serveLine(signals <-chan os.Signal) (int, error) {
	line := os.NewFile(lineFile, "line")
	go func() {
		for s := range signals {
			if number, ok := s.(unix.Signal); ok && s != unix.SIGURG {
				_, _ = line.Write([]byte{byte(number)})
			}
		}
	}()
	var status [1]byte
	if _, err := io.ReadFull(line, status[:]); err != nil {
		// The sandbox process is gone, and everything with it. The first process
		// of a namespace cannot kill itself.
		return killedStatus, nil //nolint:nilerr // It is told by the status.
	}
	return int(status[0]), nil
}
