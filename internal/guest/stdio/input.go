package stdio

import (
	"io"
	"net"
	"sync"

	"dougong.dev/dougong/internal/transport"
)

// input copies a stream of the host to a process.
type input struct {
	conn net.Conn
	to   io.WriteCloser
	once sync.Once
}

func newInput(conn net.Conn, to io.WriteCloser) *input {
	return &input{conn: conn, to: to}
}

// copy ends when the host has ended the stream or is gone, which both end the
// process's input, and when the process takes no more, which the host sees as
// a closed connection.
func (i *input) copy() {
	_, _ = io.Copy(onlyWriter{i.to}, transport.NewStreamReader(i.conn))
	i.end()
}

func (i *input) end() {
	i.once.Do(func() {
		_ = i.to.Close()
		_ = i.conn.Close()
	})
}

// onlyWriter hides os.File.ReadFrom, which tries splice first and copies
// with a small buffer when the source is no file.
type onlyWriter struct{ io.Writer }
