// Package standin makes processes of the host that stand in place of processes
// of a guest.
//
// It owns what such a process looks like, its start and its life. Whom it
// stands for, and what is told by its end, is its caller's matter.
package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/child"
)

const (
	// envName marks a process as a stand-in and says what it stands for.
	envName = "DOUGONG_STAND_IN"
	// Name is what the kernel calls a stand-in; its arguments are those
	// of the process that it stands for.
	Name = "dougong-contain"
	// startTimeout bounds the start of a stand-in.
	startTimeout = 10 * time.Second
	// maxArgs bounds the arguments, which a guest may make up.
	maxArgs = 4096
)

// Spec says what a stand-in looks like. Clients look at processes on the host:
// they list them by ps, copy files by way of /proc/PID/root, count in the
// network namespace, or send signals.
type Spec struct {
	// PID is the process id that it should have, 0 for any.
	PID int `json:"-"`
	// Args are what ps shows.
	Args []string `json:"-"`
	// Root is its root directory.
	Root string
	// Net is the network namespace it joins, or NewNet for one of its own.
	Net string
	UID uint32
	GID uint32
	// Life ends it by itself, unless it is 0.
	Life time.Duration
	// Lined says that it has a line to the sandbox process; see Leave.
	Lined bool
	// Apart gives it namespaces of its own but for the network, in which it sees
	// its root directory, which may be ReadOnly, and Mounts, and has a Hostname
	// where that is not empty. With Users there is one for users too.
	Apart, ReadOnly bool
	Mounts          []Mount
	Hostname        string
	Users           *Users
}

// NewNet is a network namespace of the stand-in's own.
const NewNet = "new"

// Start starts a stand-in that ends with this process. Where its process id
// cannot be had it has another.
func (s Spec) Start() (*child.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start stand-in: %w", err)
	}
	defer ready.Close()
	defer theirs.Close()
	how, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("start stand-in: %w", err)
	}
	program := child.Program{
		Path: self, Args: shorten(s.Args), Env: []string{"GOMAXPROCS=1", envName + "=" + string(how)},
		File: theirs, NewNet: s.Net == NewNet,
	}
	process, err := child.StartAs(s.PID, program)
	if err != nil && s.PID != 0 && s.Life == 0 {
		process, err = child.StartAs(0, program)
	}
	if err != nil {
		return nil, err
	}
	_ = theirs.Close()
	_ = ready.SetReadDeadline(time.Now().Add(startTimeout))
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		process.Kill()
		return nil, fmt.Errorf("stand-in of process %q with root %s does not come up: %w", s.Args, s.Root, err)
	}
	return process, nil
}

// shorten bounds arguments, and makes some up where there are none.
func shorten(args []string) []string {
	var short []string
	left := maxArgs
	for _, a := range args {
		a = a[:min(len(a), left)]
		left -= len(a)
		short = append(short, a)
		if left == 0 {
			break
		}
	}
	if len(short) == 0 {
		return []string{Name}
	}
	return short
}

// Is reports whether this process was started as a stand-in.
func Is() bool { return os.Getenv(envName) != "" }

// Main is the whole life of a stand-in, on the main thread. It returns the
// status with which the process is to exit.
func Main() (int, error) {
	var s Spec
	if err := json.Unmarshal([]byte(os.Getenv(envName)), &s); err != nil {
		return 0, fmt.Errorf("read %s: %w", envName, err)
	}
	var signals <-chan os.Signal
	if s.Lined {
		signals = catch()
	}
	if err := s.become(); err != nil {
		return 0, err
	}
	if _, err := unix.Write(3, []byte{1}); err != nil {
		return 0, fmt.Errorf("say that we are ready: %w", err)
	}
	_ = unix.Close(3)
	if s.Lined {
		return serveLine(signals)
	}
	if s.Life > 0 {
		<-time.After(s.Life)
		return 0, nil
	}
	for {
		_ = unix.Pause()
	}
}

// become makes this process look as it should.
func (s Spec) become() error {
	parent := os.Getppid()
	if err := quiet(); err != nil {
		return err
	}
	// With users of its own it has no right to, and was started in there.
	if s.joins() && s.Users == nil {
		if err := joinNet(s.Net); err != nil {
			return err
		}
	}
	if err := s.changeRoot(); err != nil {
		return err
	}
	name := append([]byte(Name), 0)
	uid, gid := s.ids()
	err := errors.Join(unix.Setgroups(nil), unix.Setresgid(gid, gid, gid), unix.Setresuid(uid, uid, uid), unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0))
	if err != nil {
		return fmt.Errorf("become user %d: %w", s.UID, err)
	}
	if s.Lined {
		return nil
	}
	// After the change of the user, which undoes it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the sandbox process: %w", err)
	}
	if os.Getppid() != parent {
		return errors.New("the sandbox process is gone")
	}
	return nil
}

func (s Spec) changeRoot() error {
	if s.Apart {
		return errors.Join(s.settle(), s.rename())
	}
	if err := errors.Join(unix.Chroot(s.Root), unix.Chdir("/")); err != nil {
		return fmt.Errorf("change root to %s: %w", s.Root, err)
	}
	return nil
}

// quiet lets go of the standard streams, which are the sandbox process's.
func quiet() error {
	null, err := unix.Open(os.DevNull, unix.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	return errors.Join(unix.Dup3(null, 0, 0), unix.Dup3(null, 1, 0), unix.Dup3(null, 2, 0), unix.Close(null))
}

func joinNet(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("join network namespace %s: %w", path, err)
	}
	return nil
}
