// Package agent is the host's side of the conversation with the guest agent:
// it waits for the guest to come up and calls its services.
//
// It owns the connection and its deadlines. The guest is hostile: whatever
// comes back is data with a bound, and an answer that does not come is an
// error, never a hang.
package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/rpcerr"
	"dougong.dev/dougong/internal/transport"
)

// Client calls the agent of one VM.
type Client struct {
	// Task is containerd's Task service in the guest.
	Task task.TTRPCTaskService
	// VM is the service for what a VM adds to containers.
	VM agentapi.AgentService
	// Hello is how the guest introduced itself.
	Hello transport.Hello

	session transport.Session
	conn    *ttrpc.Client
}

// Line is the host's end of the line to an agent.
type Line interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
}

// Await waits until the agent behind line is up. Until Connect the agent does
// nothing more.
func Await(ctx context.Context, line Line) error {
	stop := context.AfterFunc(ctx, func() { _ = line.SetReadDeadline(time.Unix(1, 0)) })
	err := transport.AwaitLine(line)
	if !stop() {
		return fmt.Errorf("wait for the guest agent: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("wait for the guest agent: %w", err)
	}
	return nil
}

// Connect connects to the agent behind line, which is up. The client owns
// line from then on; on an error line is closed.
func Connect(ctx context.Context, line Line) (*Client, error) {
	c := &Client{session: transport.NewHost(line)}
	if err := c.connect(ctx, func() error { return transport.TakeLine(line) }); err != nil {
		_ = c.session.Close()
		return nil, err
	}
	return c, nil
}

// connect waits for the hello, which begin asks for, and for the services.
func (c *Client) connect(ctx context.Context, begin func() error) error {
	hello, err := c.awaitHello(ctx, begin)
	if err != nil {
		return fmt.Errorf("wait for the guest agent: %w", err)
	}
	c.Hello = hello
	control, err := c.session.Dial(ctx, transport.PortControl)
	if err != nil {
		return fmt.Errorf("connect to the guest agent: %w", err)
	}
	c.conn = ttrpc.NewClient(control, ttrpc.WithUnaryClientInterceptor(rpcerr.Client))
	c.Task = task.NewTTRPCTaskClient(c.conn)
	c.VM = agentapi.NewAgentClient(c.conn)
	return nil
}

// awaitHello begins the session and accepts the one connection by which the
// guest says that it is ready. It does so at once, and would be refused if
// nobody listened yet; the session itself has sent nothing before.
func (c *Client) awaitHello(ctx context.Context, begin func() error) (transport.Hello, error) {
	var hello transport.Hello
	listener, err := c.session.Listen(transport.PortReady)
	if err != nil {
		return hello, err
	}
	defer listener.Close()
	if err := begin(); err != nil {
		return hello, err
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	conn, err := listener.Accept()
	if err != nil {
		if ctx.Err() != nil {
			return hello, context.Cause(ctx)
		}
		return hello, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetReadDeadline(deadline)
	}
	return transport.ReadHello(conn)
}

// OpenStream connects to the stdio stream of this id.
func (c *Client) OpenStream(ctx context.Context, id string) (net.Conn, error) {
	return transport.OpenStream(ctx, c.session, id)
}

// OpenForward connects to a TCP address in the guest.
func (c *Client) OpenForward(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
	return transport.OpenForward(ctx, c.session, address)
}

// OpenResolver returns a line with the guest's questions to a name server; see
// transport.ReadQuestion.
func (c *Client) OpenResolver(ctx context.Context) (net.Conn, error) {
	return c.session.Dial(ctx, transport.PortResolver)
}

// Done is closed when the connection to the guest is lost.
func (c *Client) Done() <-chan struct{} { return c.session.Done() }

// Close ends the conversation.
func (c *Client) Close() error {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	return c.session.Close()
}
