// Package virtiofsd runs the daemon that serves one directory tree of the
// host to a VM over vhost-user.
//
// It owns the daemon's command line, its sandboxing and its end. What is in
// the directory, and how it is mounted in the guest, is not its matter.
package virtiofsd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/socket"
)

// candidates are the places where distributions put the daemon.
var candidates = []string{"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"}

// Config says how a daemon is run.
type Config struct {
	// Binary is the daemon; empty looks in the usual places.
	Binary string
	// Dir is the directory that the guest sees.
	Dir string
	// RunDir is a directory of the sandbox for the listening socket.
	RunDir string
	// Cache is auto, always or none: how long the guest may trust what it
	// has read.
	Cache string
}

// Daemon is a running file sharing daemon.
type Daemon struct {
	process *child.Process
	socket  *os.File
	log     *tail
}

// Find returns the path of the daemon, binary itself when it is given.
func Find(binary string) (string, error) {
	if binary != "" {
		candidates := []string{binary}
		return first(candidates)
	}
	return first(candidates)
}

func first(paths []string) (string, error) {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look for virtiofsd: %w", err)
		}
	}
	return "", fmt.Errorf("virtiofsd is not at %s: install it (Debian 12: package qemu-system-common) or set share.virtiofsd in the configuration", strings.Join(paths, ", "))
}

// Start runs a daemon for c.Dir and connects to it.
func Start(_ context.Context, c Config) (*Daemon, error) {
	binary, err := Find(c.Binary)
	if err != nil {
		return nil, err
	}
	// The daemon would say so only after somebody has connected.
	if info, err := os.Stat(c.Dir); err != nil {
		return nil, fmt.Errorf("share a directory: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("share %s: it is no directory: %w", c.Dir, errdefs.ErrInvalidArgument)
	}
	listener, err := listen(c.RunDir)
	if err != nil {
		return nil, err
	}
	// Once connected, the name is of no more use to anybody.
	defer os.Remove(filepath.Join(c.RunDir, socketName))
	defer listener.Close()
	d := &Daemon{log: new(tail)}
	cmd := exec.Command(binary, args(c)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.ExtraFiles = []*os.File{listener}
	cmd.Stdout, cmd.Stderr = d.log, d.log
	// Whether a user of the guest may make a file is found by the guest's kernel,
	// which knows all of its groups; the daemon is told of one.
	if d.process, err = child.StartSwitching(cmd); err != nil {
		return nil, err
	}
	if d.socket, err = connect(c.RunDir); err != nil {
		d.process.Kill()
		return nil, fmt.Errorf("connect to virtiofsd: %w: %s", err, d.log)
	}
	return d, nil
}

// args is the command line; the listening socket is file descriptor 3.
func args(c Config) []string {
	return []string{
		"--fd=3", "-f",
		// The daemon may be unable to raise its limit; it keeps what it has.
		"--rlimit-nofile=0",
		"-o", "source=" + c.Dir,
		"-o", "sandbox=namespace",
		"-o", "cache=" + c.Cache,
		"-o", "xattr",
		"-o", "announce_submounts",
		"-o", "log_level=warn",
	}
}

// socketName is the listening socket in the sandbox's directory.
const socketName = "virtiofs.sock"

func listen(dir string) (*os.File, error) {
	l, err := socket.Listen(dir, socketName)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.File()
}

// connect makes the socket that the VMM inherits. The listener exists before
// the daemon runs, so this neither waits nor polls.
func connect(dir string) (*os.File, error) {
	conn, err := socket.Dial(dir, socketName)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.File()
}

// Socket is the connection that is handed to the VMM.
func (d *Daemon) Socket() *os.File { return d.socket }

// PID returns the daemon's process id.
func (d *Daemon) PID() int { return d.process.PID() }

// Done is closed when the daemon has ended.
func (d *Daemon) Done() <-chan struct{} { return d.process.Done() }

// Err says how the daemon ended, with its last words.
func (d *Daemon) Err() error {
	if err := d.process.Err(); err != nil {
		return fmt.Errorf("virtiofsd ended: %w: %s", err, d.log)
	}
	return nil
}

// Stop ends the daemon and waits until it is gone.
func (d *Daemon) Stop() {
	_ = d.socket.Close()
	d.process.Kill()
}

// tail keeps the last words of the daemon for error messages.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	t.buf = t.buf[max(0, len(t.buf)-tailSize):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
