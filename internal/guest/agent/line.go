package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/transport"
)

// portName is the virtio serial port that the host gives the agent.
const portName = "dev.dougong.agent"

const (
	// portTimeout is how long the port may take to appear at boot.
	portTimeout = 30 * time.Second
	// portPoll is how often a port is asked for its host's end.
	portPoll = time.Millisecond
)

// commandLine is the kernel's command line, by name. A name without a value
// has the value "".
type commandLine map[string]string

func readCommandLine(path string) commandLine {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	line := make(commandLine)
	for word := range strings.FieldsSeq(string(data)) {
		name, value, _ := strings.Cut(word, "=")
		line[name] = value
	}
	return line
}

func (l commandLine) level() slog.Level {
	if _, ok := l["dougong.debug"]; ok {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// saved says that this machine is to be saved and to go on as clones.
func (l commandLine) saved() bool {
	_, ok := l["dougong.template"]
	return ok
}

// ports is where virtio serial ports are found by name.
type ports interface {
	Port(ctx context.Context, name string) (string, error)
}

// connect opens the line that the command line names. Nothing is sent before
// offer is called, which returns when the host has taken the line.
func connect(ctx context.Context, line commandLine, from ports) (session transport.Session, offer func(func(*transport.Rehearsal) error) error, err error) {
	switch kind := line["dougong.transport"]; kind {
	case "vsock":
		session, err = transport.NewVsockGuest()
		return session, taken, err
	case "", "virtio-serial":
		port, err := openPort(ctx, from)
		if err != nil {
			return nil, nil, err
		}
		still := transport.NewStillLine(port)
		return transport.NewGuest(still), still.Offer, nil
	default:
		return nil, nil, fmt.Errorf("dougong.transport=%s: want vsock or virtio-serial", kind)
	}
}

// openPort opens the agent's port once the host's end is open. A port reads
// as ended before that; the kernel tells of the change only to those who have
// it open, as a hang-up that goes.
func openPort(ctx context.Context, from ports) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, portTimeout)
	defer cancel()
	node, err := from.Port(ctx, portName)
	if err != nil {
		return nil, err
	}
	port, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open port: %w", err)
	}
	tick := time.NewTicker(portPoll)
	defer tick.Stop()
	for hungUp(port) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			_ = port.Close()
			return nil, fmt.Errorf("wait for the host's end of %s: %w", node, context.Cause(ctx))
		}
	}
	return newPort(port)
}

func hungUp(port *os.File) bool {
	raw, err := port.SyscallConn()
	if err != nil {
		return false
	}
	hup := false
	_ = raw.Control(func(fd uintptr) {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		_, _ = unix.Poll(polled, 0)
		hup = polled[0].Revents&unix.POLLHUP != 0
	})
	return hup
}
