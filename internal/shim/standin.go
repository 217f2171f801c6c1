package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/child"
)

const (
	// standInEnv marks a process as a stand-in and says what it stands for.
	standInEnv = "DOUGONG_STAND_IN"
	// standInName is what the kernel calls a stand-in; its arguments are those
	// of the process that it stands for.
	standInName = "dougong-contain"
	// standInTimeout bounds the start of a stand-in.
	standInTimeout = 10 * time.Second
	// maxStandInArgs bounds the arguments, which a guest may make up.
	maxStandInArgs = 4096
)

// A stand-in is a process of the host in place of one in the guest, with the
// same process id where that is free. Clients look at processes on the host:
// they list them by ps, copy files by way of /proc/PID/root, count in the
// network namespace, or send signals.
type standIn struct{ *child.Process }

// stand says what a stand-in looks like.
type stand struct {
	// PID is the process id that it should have, 0 for any.
	PID int `json:"-"`
	// Args are what ps shows.
	Args []string `json:"-"`
	// Root is its root directory.
	Root string
	// Net is the network namespace it joins, or newNet for one of its own.
	Net string
	UID uint32
	GID uint32
	// Life ends it by itself, unless it is 0.
	Life time.Duration
}

// newNet is a network namespace of the stand-in's own.
const newNet = "new"

// start starts a stand-in. Where its process id cannot be had it has another.
func (s stand) start() (*standIn, error) {
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
		Path: self, Args: shorten(s.Args), Env: []string{"GOMAXPROCS=1", standInEnv + "=" + string(how)},
		File: theirs, NewNet: s.Net == newNet,
	}
	process, err := child.StartAs(s.PID, program)
	if err != nil && s.PID != 0 && s.Life == 0 {
		process, err = child.StartAs(0, program)
	}
	if err != nil {
		return nil, err
	}
	_ = theirs.Close()
	_ = ready.SetReadDeadline(time.Now().Add(standInTimeout))
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		process.Kill()
		return nil, fmt.Errorf("stand-in of process %q with root %s does not come up: %w", s.Args, s.Root, err)
	}
	return &standIn{process}, nil
}

// shorten bounds arguments, and makes some up where there are none.
func shorten(args []string) []string {
	var short []string
	left := maxStandInArgs
	for _, a := range args {
		a = a[:min(len(a), left)]
		left -= len(a)
		short = append(short, a)
		if left == 0 {
			break
		}
	}
	if len(short) == 0 {
		return []string{standInName}
	}
	return short
}

// IsStandIn reports whether this process was started as a stand-in.
func IsStandIn() bool { return os.Getenv(standInEnv) != "" }

// StandIn is the whole life of a stand-in, on the main thread. It returns only
// with an error.
func StandIn() error {
	var s stand
	if err := json.Unmarshal([]byte(os.Getenv(standInEnv)), &s); err != nil {
		return fmt.Errorf("read %s: %w", standInEnv, err)
	}
	if err := s.become(); err != nil {
		return err
	}
	if _, err := unix.Write(3, []byte{1}); err != nil {
		return fmt.Errorf("say that we are ready: %w", err)
	}
	_ = unix.Close(3)
	if s.Life > 0 {
		<-time.After(s.Life)
		return nil
	}
	for {
		_ = unix.Pause()
	}
}

// become makes this process look as it should.
func (s stand) become() error {
	parent := os.Getppid()
	if err := quiet(); err != nil {
		return err
	}
	if s.Net != "" && s.Net != newNet {
		if err := joinNet(s.Net); err != nil {
			return err
		}
	}
	if err := errors.Join(unix.Chroot(s.Root), unix.Chdir("/")); err != nil {
		return fmt.Errorf("change root to %s: %w", s.Root, err)
	}
	name := append([]byte(standInName), 0)
	err := errors.Join(unix.Setgroups(nil), unix.Setresgid(int(s.GID), int(s.GID), int(s.GID)),
		unix.Setresuid(int(s.UID), int(s.UID), int(s.UID)), unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0),
		// After the change of the user, which undoes it.
		unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0))
	if err != nil {
		return fmt.Errorf("become user %d: %w", s.UID, err)
	}
	if os.Getppid() != parent {
		return errors.New("the sandbox process is gone")
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

// netOf is the network namespace that a spec asks for.
func netOf(spec *specs.Spec) string {
	if spec.Linux == nil {
		return ""
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type != specs.NetworkNamespace {
			continue
		}
		if ns.Path == "" {
			return newNet
		}
		return ns.Path
	}
	return ""
}

// standInRoot is the root directory of a container as the host sees it, or an
// empty one where the host does not see it.
func standInRoot(bundle, root string) (string, error) {
	if root != "" {
		return root, nil
	}
	empty := filepath.Join(stateDir(bundle), "empty")
	if err := os.MkdirAll(empty, 0o500); err != nil {
		return "", fmt.Errorf("make an empty root directory: %w", err)
	}
	return empty, nil
}
