package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Sizes of what one message may carry.
const (
	maxHeader = 4096
	maxFiles  = 8
)

// Desk keeps what was handed over until it is taken. The zero value is ready.
type Desk struct {
	mu       sync.Mutex
	packages map[string]*Package
}

// Serve takes packages from everybody who connects, until the listener is
// closed. Only processes of this one's user are heard.
func (d *Desk) Serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				slog.Error("take files", "error", err)
			}
			return
		}
		go func() {
			defer conn.Close()
			if err := d.receive(conn.(*net.UnixConn)); err != nil {
				slog.Warn("take files", "error", err)
			}
		}()
	}
}

// receive keeps one package for as long as the connection is open.
func (d *Desk) receive(conn *net.UnixConn) error {
	if err := sameUser(conn); err != nil {
		return err
	}
	p, err := read(conn)
	if err != nil {
		return err
	}
	d.put(p)
	defer d.drop(p)
	if _, err := conn.Write([]byte{1}); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	// Nothing more comes but the end.
	_, _ = io.Copy(io.Discard, conn)
	return nil
}

func sameUser(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("look at the caller: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return fmt.Errorf("look at the caller: %w", err)
	}
	if credErr != nil {
		return fmt.Errorf("look at the caller: %w", credErr)
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d wants to hand files over", cred.Uid)
	}
	return nil
}

func read(conn *net.UnixConn) (*Package, error) {
	header, rights := make([]byte, maxHeader), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, rn, _, _, err := conn.ReadMsgUnix(header, rights)
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	files, err := filesOf(rights[:rn])
	if err != nil {
		return nil, err
	}
	p := &Package{Files: make(map[string]*os.File)}
	err = json.Unmarshal(header[:n], p)
	if err == nil {
		err = p.check(len(files))
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, fmt.Errorf("read what came: %w", err)
	}
	for i, name := range p.Names {
		p.Files[name] = files[i]
	}
	return p, nil
}

// filesOf are the files of a message. They are closed on exec: the kernel is
// asked for that by net.
func filesOf(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("read what came: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "handed"))
		}
	}
	return files, nil
}

func (d *Desk) put(p *Package) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.packages == nil {
		d.packages = make(map[string]*Package)
	}
	d.packages[p.Token] = p
}

// drop closes the files of a package that nobody has taken.
func (d *Desk) drop(p *Package) {
	d.mu.Lock()
	waiting := d.packages[p.Token] == p
	delete(d.packages, p.Token)
	d.mu.Unlock()
	if waiting {
		p.Close()
	}
}

// Take returns the package that a URI names; its files are the caller's then.
// It is nil when the URI is of another kind.
func (d *Desk) Take(uri string) (*Package, error) {
	token, ok := tokenOf(uri)
	if !ok {
		return nil, nil
	}
	if d == nil {
		return nil, errors.New("this sandbox process takes no files")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.packages[token]
	if p == nil {
		return nil, fmt.Errorf("no files were handed over as %q", token)
	}
	delete(d.packages, token)
	return p, nil
}

// Close closes the files.
func (p *Package) Close() {
	for _, f := range p.Files {
		_ = f.Close()
	}
}
