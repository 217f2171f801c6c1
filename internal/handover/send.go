package handover

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/socket"
)

// scheme begins the URI of standard streams that were handed over.
const scheme = "handed:"

// Package is what is handed over for one process.
type Package struct {
	// Files by what they are: the names below.
	Files map[string]*os.File `json:"-"`
	// PID is a process of the host that stands for the process, 0 for none.
	PID int `json:"pid"`
	// Names tells in which order the files travel; it is filled by Send.
	Names []string `json:"names"`
	// Token is how the package is found; it is filled by Send.
	Token string `json:"token"`
}

// Names of files.
const (
	Stdin  = "stdin"
	Stdout = "stdout"
	Stderr = "stderr"
	// Terminal is the process's end of a terminal, in place of the three.
	Terminal = "terminal"
	// Line leads to the process that stands for this one.
	Line = "line"
	// Lock is the sign of life of the process's container.
	Lock = "lock"
	// Mounts is the mount namespace in which the caller's paths are meant.
	Mounts = "mounts"
)

// URI is what a request names as each of its standard streams.
func (p *Package) URI() string { return scheme + p.Token }

// tokenOf returns the token in a URI.
func tokenOf(uri string) (string, bool) { return strings.CutPrefix(uri, scheme) }

// Send hands a package to the sandbox process that listens on the socket. The
// package waits there until it is taken, or until the connection is closed.
func Send(path string, p *Package) (io.Closer, error) {
	conn, err := socket.Dial(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return nil, err
	}
	if err := send(conn, p); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("hand files to the sandbox process: %w", err)
	}
	return conn, nil
}

func send(conn *net.UnixConn, p *Package) error {
	var token [16]byte
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(token[:])
	p.Token, p.Names = hex.EncodeToString(token[:]), nil
	var fds []int
	for _, name := range []string{Stdin, Stdout, Stderr, Terminal, Line, Lock, Mounts} {
		if f := p.Files[name]; f != nil {
			p.Names = append(p.Names, name)
			fds = append(fds, int(f.Fd()))
		}
	}
	header, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if _, _, err := conn.WriteMsgUnix(header, unix.UnixRights(fds...), nil); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return fmt.Errorf("it does not take them: %w", err)
	}
	return nil
}

// check refuses what no Send of ours has made.
func (p *Package) check(files int) error {
	if len(p.Token) != 32 || len(p.Names) != files || slices.Contains(p.Names, "") {
		return fmt.Errorf("%d files came as %q", files, p.Names)
	}
	return nil
}
