package stdio

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/guest/nonblock"
	"dougong.dev/dougong/internal/transport"
)

// output copies what a process writes to a stream of the host. When the host
// is gone, or there is no stream, the bytes are dropped: the process goes on.
type output struct {
	conn    net.Conn // nil drops everything
	from    *os.File
	started atomic.Bool
	done    chan struct{}
	// sent tells whether the host takes what is sent.
	sent atomic.Pointer[transport.Watched]
}

// stuck is how long a host may leave a write waiting before it counts as one
// that does not read, once the process is dead.
const stuck = 10 * time.Second

// looks is how often that is looked at.
const looks = 20

func newOutput(conn net.Conn, from *os.File) *output {
	return &output{conn: conn, from: from, done: make(chan struct{})}
}

func (o *output) copy() {
	o.started.Store(true)
	defer close(o.done)
	if o.conn == nil {
		_, _ = io.Copy(io.Discard, o.from)
		return
	}
	go watch(o.conn)
	sent := transport.NewWatched(o.conn)
	o.sent.Store(sent)
	w := transport.NewStreamWriter(sent)
	o.send(w)
	_ = w.Close()
}

// copyBuffer is how much is read from a process at once, in bytes.
const copyBuffer = 128 << 10

func (o *output) send(w io.Writer) {
	read := &source{file: o.from}
	if file, err := nonblock.New(o.from); err == nil {
		read.file = file
	}
	if _, err := io.CopyBuffer(w, read, make([]byte, copyBuffer)); err == nil || read.err != nil {
		o.rest(w, read.err)
		return
	}
	_, _ = io.Copy(io.Discard, o.from)
}

// rest sends what is in the pipe when the time for others to write to it is
// over. The dead process itself cannot have left more than that.
func (o *output) rest(w io.Writer, end error) {
	if !errors.Is(end, os.ErrDeadlineExceeded) {
		return
	}
	_ = o.from.SetReadDeadline(time.Time{})
	_, _ = io.CopyN(w, o.from, int64(buffered(o.from)))
}

// buffered is the number of bytes that can be read without waiting.
func buffered(f *os.File) (n int) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if err != nil {
		return 0
	}
	return n
}

// expire lets the copying end when grace is over, even with the pipe open.
func (o *output) expire(grace time.Duration) {
	_ = o.from.SetReadDeadline(time.Now().Add(grace))
}

// await returns when everything was handed to the host, however slowly, or the
// host has let a write wait for too long, if only before this call.
func (o *output) await(limit time.Duration) {
	for {
		if sent := o.sent.Load(); sent != nil && sent.Stuck(limit) {
			// This ends the write that waits.
			_ = o.conn.Close()
			<-o.done
			return
		}
		select {
		case <-o.done:
			return
		case <-time.After(limit / looks):
		}
	}
}

// watch closes conn when the host closes it: because it has read the end, or
// because it does not want to read on. Closing ends writes that still wait.
// The guest does not close first as long as the host reads at all, since that
// would set a limit to how slowly it may read; see await.
func watch(conn net.Conn) {
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
}

// source tells errors of reading from those of writing, and takes the
// hang-up of a terminal for its end.
type source struct {
	file io.Reader
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	if errors.Is(err, syscall.EIO) || errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	s.err = err
	return n, err
}
