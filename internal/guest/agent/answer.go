package agent

import (
	"net"
	"time"
)

// watched is a listener that tells when its connections have written: ttrpc
// has no way to say that an answer was sent.
type watched struct {
	net.Listener
	wrote chan struct{}
}

func (w *watched) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: conn, wrote: w.wrote}, nil
}

type watchedConn struct {
	net.Conn
	wrote chan struct{}
}

func (c *watchedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	select {
	case c.wrote <- struct{}{}:
	default:
	}
	return n, err
}

// forget makes settle wait for what is written from here on.
func (w *watched) forget() {
	select {
	case <-w.wrote:
	default:
	}
}

// settle returns when the last answers are out: after something was written
// and nothing more follows, when the host is gone, or after answerTime.
func (w *watched) settle(gone <-chan struct{}) {
	limit := time.After(answerTime)
	var quiet <-chan time.Time
	for {
		select {
		case <-w.wrote:
			quiet = time.After(quietTime)
		case <-quiet:
			return
		case <-gone:
			return
		case <-limit:
			return
		}
	}
}
