package qmptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/qmp"
)

const greeting = `{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":"qmptest"},"capabilities":["oob"]}}`

// Call is one command as the server got it.
type Call struct {
	Name string
	// Args is the JSON of the arguments; nil when there were none.
	Args json.RawMessage
	// File is what came with getfd or add-fd. The handler closes it.
	File *os.File
}

// Handler answers a command: with a value that encodes to JSON, or with an
// error, of which *qmp.Error keeps its class.
type Handler func(Call) (any, error)

// Server answers the commands that arrive on its end of a socket pair. A
// command without a handler gets CommandNotFound; qmp_capabilities is answered.
type Server struct {
	conn *net.UnixConn

	mu       sync.Mutex
	handlers map[string]Handler
	calls    []string
	files    []*os.File
}

// New starts a server that has greeted, and returns the client's end. Both are
// closed when the test ends.
func New(t testing.TB) (*Server, *net.UnixConn) {
	t.Helper()
	s, client := NewSilent(t)
	s.Raw(greeting + "\r\n")
	return s, client
}

// NewSilent is New without the greeting.
func NewSilent(t testing.TB) (*Server, *net.UnixConn) {
	t.Helper()
	server, client, err := pair()
	if err != nil {
		t.Fatalf("make a socket pair: %v", err)
	}
	s := &Server{conn: server, handlers: make(map[string]Handler)}
	s.Handle("qmp_capabilities", func(Call) (any, error) { return struct{}{}, nil })
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.serve()
	}()
	t.Cleanup(func() {
		server.Close()
		client.Close()
		<-served
	})
	return s, client
}

// Handle sets who answers a command.
func (s *Server) Handle(name string, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[name] = h
}

// Event sends an event; data is its JSON object.
func (s *Server) Event(name, data string) {
	s.Raw(fmt.Sprintf(`{"timestamp":{"seconds":1700000000,"microseconds":250000},"event":%q,"data":%s}`+"\r\n", name, data))
}

// Raw sends bytes as they are. An error is left to the test's other side.
func (s *Server) Raw(text string) { _, _ = s.conn.Write([]byte(text)) }

// Close ends the connection as a QEMU that exits does.
func (s *Server) Close() { s.conn.Close() }

// Calls returns the names of all commands so far, in order.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// serve answers until the connection ends.
func (s *Server) serve() {
	defer s.closeFiles()
	dec := json.NewDecoder(&fdReader{server: s})
	for {
		var c struct {
			Execute   string
			Arguments json.RawMessage
			ID        json.RawMessage
		}
		if dec.Decode(&c) != nil {
			return
		}
		s.answer(Call{Name: c.Execute, Args: c.Arguments, File: s.takeFile(c.Execute)}, c.ID)
	}
}

func (s *Server) answer(c Call, id json.RawMessage) {
	s.mu.Lock()
	s.calls = append(s.calls, c.Name)
	h := s.handlers[c.Name]
	s.mu.Unlock()
	var result any
	var err error = &qmp.Error{Class: "CommandNotFound", Desc: "The command " + c.Name + " has not been found"}
	if h != nil {
		result, err = h(c)
	}
	reply := map[string]any{"id": id, "return": result}
	if err != nil {
		reply = map[string]any{"id": id, "error": wire(err)}
	}
	line, err := json.Marshal(reply)
	if err != nil {
		line = []byte(`{"error":{"class":"GenericError","desc":"handler's result does not encode"}}`)
	}
	s.Raw(string(line) + "\r\n")
}

func wire(err error) map[string]string {
	if q, ok := errors.AsType[*qmp.Error](err); ok {
		return map[string]string{"class": q.Class, "desc": q.Desc}
	}
	return map[string]string{"class": "GenericError", "desc": err.Error()}
}

// takeFile gives a command that carries a file the oldest one that arrived.
func (s *Server) takeFile(command string) *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 || command != "getfd" && command != "add-fd" {
		return nil
	}
	f := s.files[0]
	s.files = s.files[1:]
	return f
}

func (s *Server) closeFiles() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		f.Close()
	}
}

// fdReader reads the connection and keeps the files that come along.
type fdReader struct{ server *Server }

// Read implements io.Reader.
func (r *fdReader) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*16))
	n, oobn, _, _, err := r.server.conn.ReadMsgUnix(p, oob)
	if err != nil {
		return max(n, 0), err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return n, err
		}
		r.server.keep(fds)
	}
	if n == 0 {
		return 0, net.ErrClosed
	}
	return n, nil
}

func (s *Server) keep(fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range fds {
		s.files = append(s.files, os.NewFile(uintptr(fd), "passed"))
	}
}

// pair makes two connected sockets.
func pair() (a, b *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	conns := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "qmp")
		c, cerr := net.FileConn(f)
		f.Close()
		if cerr != nil {
			err = errors.Join(err, cerr)
			continue
		}
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1], err
}
