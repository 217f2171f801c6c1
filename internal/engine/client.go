package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"

	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/rpcerr"
	"dougong.dev/dougong/internal/socket"
)

// Client calls the Task service of a running sandbox.
type Client struct {
	Task task.TTRPCTaskService

	conn *ttrpc.Client
	gone chan struct{}
}

// Dial connects to the sandbox of dir; errdefs.ErrFailedPrecondition when it
// does not run any more.
func Dial(dir record.Dir) (*Client, error) {
	conn, err := socket.Dial(dir.Path(), filepath.Base(dir.Socket()))
	if err != nil {
		return nil, fmt.Errorf("container %s is not running: %w", dir.ID[:min(12, len(dir.ID))], errdefs.ErrFailedPrecondition)
	}
	c := &Client{gone: make(chan struct{})}
	c.conn = ttrpc.NewClient(conn, ttrpc.WithUnaryClientInterceptor(rpcerr.Client), ttrpc.WithOnClose(func() { close(c.gone) }))
	c.Task = task.NewTTRPCTaskClient(c.conn)
	return c, nil
}

// Connected reports whether the sandbox process is still at the other end.
func (c *Client) Connected() bool {
	select {
	case <-c.gone:
		return false
	default:
		return true
	}
}

// lostTimeout is how long only the errors of calls may know of the end of a
// connection.
const lostTimeout = time.Second

// lost reports whether an error came of the end of the sandbox process.
func (c *Client) lost(err error) bool {
	if errdefs.IsUnavailable(err) {
		select {
		case <-c.gone:
		case <-time.After(lostTimeout):
		}
	}
	return !c.Connected()
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// lastWords returns the end of a log for an error message.
func lastWords(path string) string {
	const lines = 5
	data, err := os.ReadFile(path)
	if err != nil || len(strings.TrimSpace(string(data))) == 0 {
		return "none"
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	// A panic says what it is about above its stack.
	if i := slices.IndexFunc(all, func(line string) bool { return strings.HasPrefix(line, "panic: ") }); i >= 0 {
		all = all[i:min(i+lines, len(all))]
	}
	return strings.Join(all[max(0, len(all)-lines):], "\n  ")
}
