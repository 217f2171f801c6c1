package pool

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/socket"
)

// Place is a pool's directory while its keeper lives.
type Place struct {
	Listener *net.UnixListener
	// Leaving, when set, gives up what else the keeper has; see Leave.
	Leaving func()

	dir  string
	lock *os.File
}

// Take makes the directory this process's own and listens there;
// errdefs.ErrAlreadyExists when it has a keeper. What a killed keeper has left
// is no hindrance: clear takes away what is noted of that in the directory.
func Take(state string, clear func(dir string) error) (*Place, error) {
	p := &Place{dir: Dir(state)}
	var err error
	if p.lock, err = takeLock(p.dir); err != nil {
		return nil, err
	}
	err = clear(p.dir)
	// Without the lock's holder nobody listens there.
	if err == nil {
		err = os.Remove(filepath.Join(p.dir, socketName))
	}
	if err == nil || errors.Is(err, os.ErrNotExist) {
		p.Listener, err = socket.Listen(p.dir, socketName)
	}
	if err != nil {
		p.Leave()
		return nil, fmt.Errorf("keep a pool: %w", err)
	}
	return p, nil
}

// takeLock makes the directory and locks it, and does so again where another
// has removed it in between.
func takeLock(dir string) (*os.File, error) {
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make directory of the pool: %w", err)
		}
		path := filepath.Join(dir, lockName)
		lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lock the pool: %w", err)
		}
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			_ = lock.Close()
			return nil, fmt.Errorf("the pool %s has a keeper: %w", dir, errdefs.ErrAlreadyExists)
		}
		if err == nil && isAt(lock, path) {
			return lock, nil
		}
		_ = lock.Close()
		if err != nil {
			return nil, fmt.Errorf("lock the pool: %w", err)
		}
	}
}

func isAt(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// Leave removes the directory and gives it up.
func (p *Place) Leave() {
	if p.Listener != nil {
		_ = p.Listener.Close()
	}
	if p.Leaving != nil {
		p.Leaving()
	}
	_ = os.RemoveAll(p.dir)
	_ = p.lock.Close()
}

// Sweep removes what a killed keeper has left, and before that, by clear, what is
// noted in its directory. Its machines have ended with it.
func Sweep(state string, clear func(dir string) error) error {
	dir := Dir(state)
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	lock, err := takeLock(dir)
	if err != nil {
		// Somebody keeps it.
		return nil
	}
	defer lock.Close()
	if err := clear(dir); err != nil {
		return fmt.Errorf("clean up after a keeper of the pool: %w", err)
	}
	return os.RemoveAll(dir)
}

// Ensure starts a keeper unless there is one, and does not wait for it. The
// program is the keeper's, and ends by itself where another was faster.
func (c *Client) Ensure(program string, args ...string) error {
	if conn, err := c.dial(); err == nil {
		return conn.Close()
	} else if !errdefs.IsNotFound(err) {
		return err
	}
	if err := os.MkdirAll(Dir(c.State), 0o700); err != nil {
		return fmt.Errorf("make directory of the pool: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(Dir(c.State), logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log of the pool: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	// The terminal's signals are not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the pool's keeper: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	return nil
}
