package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Loopback takes the TCP connections that processes in a namespace make to
// 127.0.0.1 and ::1, whatever the port. There is nobody else for them: the
// processes that would listen there are in the guest.
type Loopback struct {
	listeners []net.Listener
	// steering are a map, a program and what attaches it.
	steering  []*os.File
	conns     chan net.Conn
	accepting sync.WaitGroup
	closed    chan struct{}
	once      sync.Once
}

// Loopback begins to take connections. It needs a kernel that can steer
// connections by a program (CONFIG_BPF_SYSCALL, Linux 5.17).
func (n *Namespace) Loopback() (*Loopback, error) {
	l := &Loopback{conns: make(chan net.Conn), closed: make(chan struct{})}
	if err := l.listen(n); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on the loopback interface of the network namespace: %w", err)
	}
	if err := l.steer(n); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("steer connections to the loopback interface of the network namespace (the host needs a kernel with BPF): %w", err)
	}
	for _, listener := range l.listeners {
		l.accepting.Go(func() { l.accept(listener) })
	}
	return l, nil
}

// listen makes a socket for each family, at a port that nobody is told.
func (l *Loopback) listen(n *Namespace) error {
	return n.Do(func() error {
		// The map takes no sockets of multipath TCP, which is Go's default.
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		config.Control = freebind
		for _, address := range []struct{ network, address string }{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}} {
			listener, err := config.Listen(context.Background(), address.network, address.address)
			if errors.Is(err, unix.EAFNOSUPPORT) || address.network == "tcp6" && errors.Is(err, unix.EADDRNOTAVAIL) {
				// The kernel has no IPv6, or the namespace none.
				continue
			}
			if err != nil {
				return err
			}
			l.listeners = append(l.listeners, listener)
		}
		return nil
	})
}

// freebind lets sockets have addresses that come later: the loopback interface
// may be down.
func freebind(network, _ string, raw syscall.RawConn) error {
	level, option := unix.SOL_IP, unix.IP_FREEBIND
	if network == "tcp6" {
		level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
	}
	var optionErr error
	err := raw.Control(func(fd uintptr) { optionErr = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(err, optionErr)
}

// steer has the kernel hand connections to the listeners.
func (l *Loopback) steer(n *Namespace) error {
	sockets, err := newSocketMap(uint32(len(families)))
	if err != nil {
		return err
	}
	l.steering = append(l.steering, sockets)
	for _, listener := range l.listeners {
		if err := putListener(sockets, listener.(*net.TCPListener)); err != nil {
			return err
		}
	}
	program, err := loadLookup(steering(int(sockets.Fd())))
	if err != nil {
		return err
	}
	l.steering = append(l.steering, program)
	attached, err := attachLookup(program, n.file)
	if err != nil {
		return err
	}
	l.steering = append(l.steering, attached)
	return nil
}

// putListener makes a listener the one of its family.
func putListener(sockets *os.File, listener *net.TCPListener) error {
	key := uint32(0)
	if listener.Addr().(*net.TCPAddr).IP.To4() == nil {
		key = 1
	}
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var putErr error
	err = raw.Control(func(fd uintptr) { putErr = putSocket(sockets, key, fd) })
	return errors.Join(err, putErr)
}

// Offsets in the context of the program, struct bpf_sk_lookup.
const (
	lookupFamily   = 8
	lookupProtocol = 12
	lookupLocalIP4 = 40
	lookupLocalIP6 = 44
	lookupIngress  = 64
)

// families are those of the listeners, in the order of their keys.
var families = []int32{unix.AF_INET, unix.AF_INET6}

// loopbackIndex is that of the loopback interface in every namespace.
const loopbackIndex = 1

// steering is the program: what comes by TCP to 127.0.0.1 or ::1 goes to the
// socket of its family, and all else where it would go without. The kernel shows
// addresses as they are on the wire.
func steering(sockets int) []instruction {
	// From the back to the front, since jumps lead forward.
	pass := []instruction{set(r0, skPass), exit()}
	// Look the socket up by the key in r7, assign it, give the reference back.
	found := []instruction{move(r7, r0), move(r1, r6), move(r2, r0), set(r3, 0), call(skAssign), move(r1, r7), call(skRelease)}
	look := append([]instruction{store(fp, -4, r7)}, mapAddress(r1, sockets)...)
	look = append(look, move(r2, fp), add(r2, -4), call(mapLookup), null(r0, int16(len(found))))
	look = append(look, found...)
	// past is how far it is from behind some instructions to pass.
	past := func(behind int) int16 { return int16(behind + len(look)) }
	v6 := []instruction{set(r7, 1)}
	for word := 3; word >= 0; word-- {
		want := int32(0)
		if word == 3 {
			want = int32(networkOrder(1))
		}
		v6 = append([]instruction{load(r3, r6, int16(lookupLocalIP6+4*word)), unless(r3, want, past(len(v6)))}, v6...)
	}
	v6 = append([]instruction{unless(r2, families[1], past(len(v6)))}, v6...)
	v4 := []instruction{set(r7, 0), jump(int16(len(v6)))}
	v4 = append([]instruction{load(r2, r6, lookupLocalIP4), unless(r2, int32(networkOrder(0x7f000001)), past(len(v4)+len(v6)))}, v4...)
	program := []instruction{load(r2, r6, lookupFamily), unless(r2, families[0], int16(len(v4)))}
	program = append(append(program, v4...), v6...)
	for _, check := range []struct {
		offset int16
		want   int32
	}{{lookupIngress, loopbackIndex}, {lookupProtocol, unix.IPPROTO_TCP}} {
		program = append([]instruction{load(r2, r6, check.offset), unless(r2, check.want, past(len(program)))}, program...)
	}
	program = append([]instruction{move(r6, r1)}, program...)
	return append(append(program, look...), pass...)
}

// skPass lets the look-up go on, with the socket that was assigned if one was.
const skPass = 1

// acceptPause is how long nothing is accepted after that has failed.
const acceptPause = 20 * time.Millisecond

func (l *Loopback) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// The peer has gone again, or there are too many files for now.
			select {
			case <-time.After(acceptPause):
				continue
			case <-l.closed:
				return
			}
		}
		select {
		case l.conns <- conn:
		case <-l.closed:
			_ = conn.Close()
			return
		}
	}
}

// Accept returns the next connection, whose local address is the one that the
// other end asked for. After Close it returns os.ErrClosed.
func (l *Loopback) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, os.ErrClosed
	}
}

// Close gives the loopback interface back. Connections that were accepted stay.
func (l *Loopback) Close() error {
	var errs []error
	l.once.Do(func() {
		close(l.closed)
		for i := range l.steering {
			errs = append(errs, l.steering[len(l.steering)-1-i].Close())
		}
		for _, listener := range l.listeners {
			errs = append(errs, listener.Close())
		}
		l.accepting.Wait()
	})
	return errors.Join(errs...)
}

// networkOrder is how this machine reads a number that is on the wire.
func networkOrder(n uint32) uint32 {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return binary.NativeEndian.Uint32(b[:])
}
