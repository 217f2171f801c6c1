// Package resolver stands in the guest for a name server that listens on the
// loopback interface of the sandbox's network namespace, where containers do
// not reach it: Docker's.
//
// It owns the sockets at that server's address and the questions that wait for
// an answer. Who answers them is the host's matter, and what they say nobody's
// here.
package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"dougong.dev/dougong/internal/transport"
)

// Address is where the server is.
const Address = "127.0.0.11:53"

const (
	// maxWaiting bounds the questions that wait for an answer.
	maxWaiting = 64
	// maxConns bounds the TCP connections, and idleTime how long one may say nothing.
	maxConns = 32
	idleTime = 10 * time.Second
	// answerTime is how long an answer is waited for.
	answerTime = 10 * time.Second
)

// Server serves lines of the host, one at a time.
type Server struct {
	lines   net.Listener
	address string
	cancel  context.CancelFunc
	serving sync.WaitGroup
}

// Serve takes lines from l, which it then owns, and puts questions on them that
// come to address.
func Serve(l net.Listener, address string) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{lines: l, address: address, cancel: cancel}
	s.serving.Go(func() {
		for {
			line, err := l.Accept()
			if err != nil {
				return
			}
			if err := serveLine(ctx, line, address); err != nil {
				slog.Warn("stand for a name server", "address", address, "error", err)
			}
		}
	})
	return s
}

// Close ends everything and waits for that.
func (s *Server) Close() error {
	s.cancel()
	err := s.lines.Close()
	s.serving.Wait()
	return err
}

// line is one line of the host with the questions on it.
type line struct {
	conn net.Conn

	mu      sync.Mutex
	last    uint32
	waiting map[uint32]chan []byte
}

// serveLine listens at the server's address until the line ends.
func serveLine(ctx context.Context, conn net.Conn, address string) error {
	defer func() { _ = conn.Close() }()
	packets, err := net.ListenPacket("udp4", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer packets.Close()
	streams, err := net.Listen("tcp4", packets.LocalAddr().String())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer streams.Close()
	l := &line{conn: conn, waiting: make(map[uint32]chan []byte)}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _, _, _ = conn.Close(), packets.Close(), streams.Close() })
	defer stop()
	var serving sync.WaitGroup
	serving.Go(func() { l.servePackets(ctx, packets) })
	serving.Go(func() { l.serveStreams(ctx, streams) })
	err = l.takeAnswers()
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		err = nil
	}
	cancel()
	serving.Wait()
	return err
}

// takeAnswers hands out what the host answers.
func (l *line) takeAnswers() error {
	for {
		a, err := transport.ReadQuestion(l.conn)
		if err != nil {
			return err
		}
		l.mu.Lock()
		waiter := l.waiting[a.ID]
		delete(l.waiting, a.ID)
		l.mu.Unlock()
		if waiter != nil {
			waiter <- a.Message
		}
	}
}

// ask puts a question and waits for its answer. One too many is dropped: who
// asks asks again.
func (l *line) ask(ctx context.Context, tcp bool, message []byte) ([]byte, error) {
	waiter := make(chan []byte, 1)
	l.mu.Lock()
	if len(l.waiting) >= maxWaiting {
		l.mu.Unlock()
		return nil, errors.New("too many questions")
	}
	l.last++
	id := l.last
	l.waiting[id] = waiter
	err := transport.WriteQuestion(l.conn, transport.Question{ID: id, TCP: tcp, Message: message})
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, id)
	}()
	if err != nil {
		return nil, err
	}
	select {
	case answer := <-waiter:
		return answer, nil
	case <-time.After(answerTime):
		return nil, errors.New("no answer")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// servePackets answers datagrams.
func (l *line) servePackets(ctx context.Context, packets net.PacketConn) {
	var asking sync.WaitGroup
	defer asking.Wait()
	slots := make(chan struct{}, maxWaiting)
	buffer := make([]byte, transport.MaxMessage)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		message := append([]byte(nil), buffer[:n]...)
		asking.Go(func() {
			defer func() { <-slots }()
			answer, err := l.ask(ctx, false, message)
			if err == nil {
				_, err = packets.WriteTo(answer, from)
			}
			if err != nil {
				slog.Debug("name server", "error", err)
			}
		})
	}
}

// serveStreams answers connections.
func (l *line) serveStreams(ctx context.Context, streams net.Listener) {
	var serving sync.WaitGroup
	defer serving.Wait()
	slots := make(chan struct{}, maxConns)
	for {
		conn, err := streams.Accept()
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		serving.Go(func() {
			defer func() { <-slots }()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			defer func() { _ = conn.Close() }()
			if err := l.serveStream(ctx, conn); !errors.Is(err, io.EOF) {
				slog.Debug("name server", "error", err)
			}
		})
	}
}

// serveStream answers the questions of one connection, one after the other, until
// that fails: with io.EOF where the other end has no more.
func (l *line) serveStream(ctx context.Context, conn net.Conn) error {
	for {
		if err := conn.SetDeadline(time.Now().Add(idleTime)); err != nil {
			return err
		}
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return err
		}
		message := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, message); err != nil {
			return err
		}
		answer, err := l.ask(ctx, true, message)
		if err != nil {
			return err
		}
		framed := binary.BigEndian.AppendUint16(nil, uint16(len(answer)))
		if _, err := conn.Write(append(framed, answer...)); err != nil {
			return err
		}
	}
}
