package ocirun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"dougong.dev/dougong/internal/engine"
)

// relay shows a container's terminal in this process's own. The zero value
// relays nothing.
type relay struct {
	dir, socket string
	master      chan *os.File
	terminal    *engine.Terminal
	done        chan struct{}
}

// newRelay listens for the terminal that a container's creation sends away.
func newRelay() (*relay, error) {
	if !engine.IsTerminal(os.Stdin) {
		return nil, errors.New("the process has a terminal (process.terminal), and the input is none: give --console-socket")
	}
	dir, err := os.MkdirTemp("", "dougong-console-")
	if err != nil {
		return nil, fmt.Errorf("make a socket for the terminal: %w", err)
	}
	r := &relay{dir: dir, socket: filepath.Join(dir, "console.sock"), master: make(chan *os.File, 1), done: make(chan struct{})}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: r.socket})
	if err != nil {
		r.close()
		return nil, fmt.Errorf("make a socket for the terminal: %w", err)
	}
	go func() {
		defer listener.Close()
		r.master <- receive(listener)
	}()
	return r, nil
}

// receive takes one terminal, nil when none comes.
func receive(listener *net.UnixListener) *os.File {
	conn, err := listener.AcceptUnix()
	if err != nil {
		return nil
	}
	defer conn.Close()
	name, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, rights)
	if err != nil {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil
	}
	// So that waiting for it can be cut short.
	_ = unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "terminal")
}

// begin carries input, output and the size until the terminal closes.
func (r *relay) begin(ctx context.Context) {
	if r.socket == "" {
		return
	}
	master := <-r.master
	if master == nil {
		close(r.done)
		return
	}
	if terminal, err := engine.RawTerminal(os.Stdin); err == nil {
		r.terminal = terminal
	}
	r.followSize(ctx, master)
	go func() { _, _ = io.Copy(master, os.Stdin) }()
	go func() {
		defer close(r.done)
		defer master.Close()
		_, _ = io.Copy(os.Stdout, master)
	}()
}

// followSize gives the container's terminal our size.
func (r *relay) followSize(ctx context.Context, master *os.File) {
	raw, err := master.SyscallConn()
	if err != nil {
		return
	}
	set := func() {
		width, height, err := term.GetSize(int(os.Stdin.Fd()))
		if err != nil {
			return
		}
		_ = raw.Control(func(fd uintptr) {
			_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: uint16(width)})
		})
	}
	set()
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, unix.SIGWINCH)
	go func() {
		defer signal.Stop(changes)
		for {
			select {
			case <-changes:
				set()
			case <-r.done:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
}

// drain waits until all that the terminal had to show was shown.
func (r *relay) drain() {
	if r.socket != "" {
		<-r.done
	}
}

func (r *relay) close() {
	r.terminal.Restore()
	if r.dir != "" {
		_ = os.RemoveAll(r.dir)
	}
}
