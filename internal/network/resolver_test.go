package network

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// nameServer answers in a namespace as Docker's does, with the question and how
// it came.
func nameServer(t *testing.T, n *Namespace) {
	t.Helper()
	var packets net.PacketConn
	var streams net.Listener
	err := n.Do(func() error {
		link, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if packets, err = net.ListenPacket("udp4", ResolverAddress); err != nil {
			return err
		}
		streams, err = net.Listen("tcp4", ResolverAddress)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = packets.Close(), streams.Close() })
	go func() {
		buffer := make([]byte, 100)
		for {
			size, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(append([]byte("udp "), buffer[:size]...), from)
		}
	}()
	go func() {
		for {
			conn, err := streams.Accept()
			if err != nil {
				return
			}
			size := make([]byte, 2)
			_, _ = io.ReadFull(conn, size)
			question := make([]byte, binary.BigEndian.Uint16(size))
			_, _ = io.ReadFull(conn, question)
			answer := append([]byte("tcp "), question...)
			_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			_ = conn.Close()
		}
	}()
}

func TestAsk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may make a network namespace")
	}
	n, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Ask(t.Context(), true, []byte("x")); err == nil {
		t.Error("nobody answers")
	}
	nameServer(t, n)
	for tcp, want := range map[bool]string{false: "udp web", true: "tcp web"} {
		if got, err := n.Ask(t.Context(), tcp, []byte("web")); string(got) != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Ask(ended, false, []byte("web")); err == nil {
		t.Error("who has gone is answered")
	}
}
