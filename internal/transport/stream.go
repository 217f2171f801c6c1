package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A stream connection begins with [1] length [length] id of the dialing side
// and a verdict of the accepting side.
const (
	maxStreamID = 255
)

// ErrStreamID says that a stream id is empty, too long or already waits.
var ErrStreamID = errors.New("transport: bad stream id")

// OpenStream connects to PortStream of the peer as the stream of that id (at
// most 255 bytes). When it returns, the peer has registered the stream.
func OpenStream(ctx context.Context, sess Session, id string) (net.Conn, error) {
	if id == "" || len(id) > maxStreamID {
		return nil, fmt.Errorf("open stream %q: %w", id, ErrStreamID)
	}
	conn, err := dialNamed(ctx, sess, PortStream, id)
	if err != nil {
		return nil, fmt.Errorf("open stream %q: %w", id, err)
	}
	return conn, nil
}

// dialNamed opens a connection, says with a length in front what it is for,
// and waits until the other end has agreed.
func dialNamed(ctx context.Context, sess Session, port uint32, name string) (net.Conn, error) {
	conn, err := sess.Dial(ctx, port)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	_, err = conn.Write(append([]byte{byte(len(name))}, name...))
	if err == nil {
		err = readVerdict(conn)
	}
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func readStreamID(r io.Reader) (string, error) {
	var b [1 + maxStreamID]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return "", fmt.Errorf("read stream id: %w", err)
	}
	if b[0] == 0 {
		return "", ErrStreamID
	}
	id := b[1 : 1+int(b[0])]
	if _, err := io.ReadFull(r, id); err != nil {
		return "", fmt.Errorf("read stream id: %w", unexpected(err))
	}
	return string(id), nil
}
