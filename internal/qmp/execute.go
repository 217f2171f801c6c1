package qmp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// command is what goes to QEMU.
type command struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	ID        uint64 `json:"id"`
}

// Execute runs a command and decodes its result into out, which may be nil.
// args is anything that encodes to a JSON object, or nil. QEMU's refusal is an
// *Error. When ctx ends first the command may still take effect.
func (c *Client) Execute(ctx context.Context, name string, args, out any) error {
	return c.execute(ctx, name, args, out, nil)
}

// ExecuteFD is Execute with a file that travels with the command, for getfd
// and add-fd. The connection must be a *net.UnixConn. The file stays the
// caller's and may be closed after the call.
func (c *Client) ExecuteFD(ctx context.Context, name string, args, out any, file *os.File) error {
	if file == nil {
		return fmt.Errorf("qmp %s: no file to pass", name)
	}
	if _, ok := c.conn.(*net.UnixConn); !ok {
		return fmt.Errorf("qmp %s: a %T cannot carry files", name, c.conn)
	}
	return c.execute(ctx, name, args, out, file)
}

func (c *Client) execute(ctx context.Context, name string, args, out any, file *os.File) error {
	m, err := c.roundTrip(ctx, name, args, file)
	if err != nil {
		return fmt.Errorf("qmp %s: %w", name, err)
	}
	if m.Error != nil {
		return fmt.Errorf("qmp %s: %w", name, m.Error.toError())
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, out); err != nil {
		return fmt.Errorf("qmp %s: decode the reply: %w", name, err)
	}
	return nil
}

// roundTrip sends one command and waits for its reply.
func (c *Client) roundTrip(ctx context.Context, name string, args any, file *os.File) (*message, error) {
	id, reply, err := c.register()
	if err != nil {
		return nil, err
	}
	defer c.forget(id)
	line, err := json.Marshal(command{Execute: name, Arguments: args, ID: id})
	if err != nil {
		return nil, fmt.Errorf("encode the arguments: %w", err)
	}
	if err := c.send(ctx, append(line, '\n'), file); err != nil {
		return nil, err
	}
	select {
	case m := <-reply:
		return m, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.done:
	}
	select {
	case m := <-reply: // came just before the end
		return m, nil
	default:
		return nil, c.Err()
	}
}

// register makes a waiter for a new command.
func (c *Client) register() (uint64, <-chan *message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return 0, nil, c.cause
	}
	c.nextID++
	reply := make(chan *message, 1)
	c.waiters[c.nextID] = reply
	return c.nextID, reply, nil
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiters, id)
}

// send writes one command, alone. A command that was cut short by ctx would
// garble every later one, so it ends the connection.
func (c *Client) send(ctx context.Context, line []byte, file *os.File) error {
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.done:
		return c.Err()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.conn.SetWriteDeadline(time.Unix(1, 0))
		close(expired)
	})
	err := c.write(line, file)
	if !stop() {
		<-expired // or the deadline would hit the next command
		_ = c.conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		return c.sendFailed(ctx, err)
	}
	return nil
}

// sendFailed ends the connection, if it has not ended before, and returns
// ctx's error when ctx did it, else what ended the connection.
func (c *Client) sendFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if peerClosed(err) {
		c.end(io.EOF)
	} else {
		c.end(fmt.Errorf("write to QEMU: %w", err))
	}
	if ctx.Err() != nil {
		return err
	}
	return c.Err()
}

// write puts line on the connection, with the file on its first byte.
func (c *Client) write(line []byte, file *os.File) error {
	if file != nil {
		n, err := writeWithFile(c.conn.(*net.UnixConn), line, file)
		if err != nil {
			return err
		}
		line = line[n:]
	}
	if len(line) == 0 {
		return nil
	}
	_, err := c.conn.Write(line)
	return err
}

// writeWithFile avoids File.Fd, which would make a socket that is passed
// blocking for everyone who shares it.
func writeWithFile(conn *net.UnixConn, line []byte, file *os.File) (int, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var writeErr error
	err = raw.Control(func(fd uintptr) {
		n, _, writeErr = conn.WriteMsgUnix(line, unix.UnixRights(int(fd)), nil)
	})
	if err != nil {
		return 0, err
	}
	return n, writeErr
}
