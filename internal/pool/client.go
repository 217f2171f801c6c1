package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/socket"
)

// Names in the state directory. No sandbox id starts with a dot.
const (
	dirName    = ".pool"
	socketName = "sock"
	lockName   = "lock"
	logName    = "log"
)

// Dir is the pool's directory below a state directory.
func Dir(state string) string { return filepath.Join(state, dirName) }

// Client asks the keeper of one state directory.
type Client struct {
	// State is the state directory.
	State string
	// Scope names the installation.
	Scope  string
	Limits Limits
}

// MissError says why a claim brought no machine.
type MissError struct {
	Reason string
	// Cause is errdefs.ErrNotFound where there is no keeper, nil where the keeper
	// had none, and else what went wrong.
	Cause error
}

// Error implements error.
func (e *MissError) Error() string { return "no machine of the pool: " + e.Reason }

// Unwrap gives the cause.
func (e *MissError) Unwrap() error { return e.Cause }

// Lot is a machine that was claimed, by the files that it is held by.
type Lot struct {
	PID   int
	Files []*os.File
}

// claimTimeout bounds a claim. A keeper answers within a millisecond or so;
// on a machine that is too busy for that a start has better to do than wait.
const claimTimeout = 500 * time.Millisecond

// Claim takes a machine out of the pool; a *MissError when there is none. It
// never waits for one to be made.
func (c *Client) Claim(ctx context.Context, kind Kind) (*Lot, error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	response, files, err := c.ask(ctx, Request{Op: OpClaim, Kind: &kind})
	if err != nil {
		return nil, &MissError{Reason: err.Error(), Cause: err}
	}
	if response.PID == 0 {
		closeAll(files)
		return nil, &MissError{Reason: response.Miss}
	}
	return &Lot{PID: response.PID, Files: files}, nil
}

// Time that a keeper gets to come up.
const (
	keeperTime = 5 * time.Second
	keeperLook = 50 * time.Millisecond
)

// Want tells a keeper that is only coming up of a kind that is in use.
func (c *Client) Want(ctx context.Context, kind Kind) error {
	_, err := c.await(ctx, Request{Op: OpWant, Kind: &kind})
	return err
}

// await asks a keeper that may only be coming up.
func (c *Client) await(ctx context.Context, r Request) (*Status, error) {
	look := time.NewTicker(keeperLook)
	defer look.Stop()
	limit := time.After(keeperTime)
	for {
		status, err := c.status(ctx, r)
		if !errdefs.IsNotFound(err) {
			return status, err
		}
		select {
		case <-look.C:
		case <-limit:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Status asks how the pool is; errdefs.ErrNotFound when there is no keeper.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return c.status(ctx, Request{Op: OpStatus})
}

// Fill asks for machines of a kind, and returns when the pool is full or cannot
// be made fuller. The keeper may only be coming up.
func (c *Client) Fill(ctx context.Context, kind Kind) (*Status, error) {
	return c.await(ctx, Request{Op: OpFill, Kind: &kind})
}

// Stop ends the keeper and every machine that waits, and returns when nothing
// of them is left; errdefs.ErrNotFound when there is no keeper.
func (c *Client) Stop(ctx context.Context) (*Status, error) {
	status, err := c.status(ctx, Request{Op: OpStop})
	if err != nil {
		return nil, err
	}
	return status, c.awaitGone(ctx)
}

// awaitGone waits for the lock, which its keeper holds to its end.
func (c *Client) awaitGone(ctx context.Context) error {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for {
		lock, err := os.Open(filepath.Join(Dir(c.State), lockName))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB)
			_ = lock.Close()
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of the pool's keeper: %w", context.Cause(ctx))
		}
	}
}

func (c *Client) status(ctx context.Context, r Request) (*Status, error) {
	response, files, err := c.ask(ctx, r)
	closeAll(files)
	if err != nil {
		return nil, err
	}
	if response.Status == nil {
		return nil, fmt.Errorf("the pool's keeper says nothing of its state: %w", errMessage)
	}
	return response.Status, nil
}

// ask sends one request and waits for the answer.
func (c *Client) ask(ctx context.Context, r Request) (*Response, []*os.File, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r.Scope, r.Limits = c.Scope, c.Limits
	response := new(Response)
	err = Send(conn, r)
	var files []*os.File
	if err == nil {
		files, err = Receive(conn, response)
	}
	if err == nil && response.Error != "" {
		closeAll(files)
		files, err = nil, errors.New(response.Error)
	}
	if ctx.Err() != nil {
		closeAll(files)
		files, err = nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("ask the pool's keeper: %w", err)
	}
	return response, files, nil
}

func (c *Client) dial() (*net.UnixConn, error) {
	conn, err := socket.Dial(Dir(c.State), socketName)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("nobody keeps a pool below %s: %w", c.State, errdefs.ErrNotFound)
	}
	return conn, err
}

// NetNS is the inode of this process's network namespace.
func NetNS() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("identify the network namespace: %w", err)
	}
	return st.Ino, nil
}
