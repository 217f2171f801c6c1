package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// ResolverAddress is where Docker's own name server listens, on the loopback
// interface of a container's network namespace. That is the only one there is.
const ResolverAddress = "127.0.0.11:53"

const (
	// maxMessage is the longest message of DNS.
	maxMessage = 1<<16 - 1
	// resolverTimeout is how long the name server may take over an answer. It
	// asks others in turn.
	resolverTimeout = 8 * time.Second
)

// Ask puts a question to the name server in the namespace, and returns its
// answer.
func (n *Namespace) Ask(ctx context.Context, tcp bool, question []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, resolverTimeout)
	defer cancel()
	network := "udp4"
	if tcp {
		network = "tcp4"
	}
	var conn net.Conn
	err := n.Do(func() (err error) {
		var d net.Dialer
		d.SetMultipathTCP(false)
		conn, err = d.DialContext(ctx, network, ResolverAddress)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reach the name server of the network namespace: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, err := exchange(conn, tcp, question)
	if err != nil {
		return nil, fmt.Errorf("ask the name server of the network namespace: %w", errors.Join(err, context.Cause(ctx)))
	}
	return answer, nil
}

func exchange(conn net.Conn, tcp bool, question []byte) ([]byte, error) {
	if !tcp {
		if _, err := conn.Write(question); err != nil {
			return nil, err
		}
		answer := make([]byte, maxMessage)
		size, err := conn.Read(answer)
		return answer[:size], err
	}
	framed := binary.BigEndian.AppendUint16(nil, uint16(len(question)))
	if _, err := conn.Write(append(framed, question...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, answer)
	return answer, err
}
