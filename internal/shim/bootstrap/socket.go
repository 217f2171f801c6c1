package bootstrap

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/oci"
)

// defaultSocketDir is where containerd keeps shims' sockets, short enough for
// an address.
const defaultSocketDir = "/run/containerd/s"

const scheme = "unix://"

// SocketAddress is the address of a group's shim, the same for every caller.
func SocketAddress(dir, daemon, namespace, group string) string {
	if dir == "" {
		dir = defaultSocketDir
	}
	sum := sha256.Sum256([]byte(filepath.Join(daemon, namespace, group)))
	return fmt.Sprintf("%s%s/%x", scheme, dir, sum)
}

// socketPath is the file behind an address.
func socketPath(address string) string { return strings.TrimPrefix(address, scheme) }

// listen makes the socket. One that a dead shim has left is replaced; one that
// is served is errdefs.ErrAlreadyExists.
func listen(address string) (*os.File, error) {
	path := socketPath(address)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if errors.Is(err, syscall.EADDRINUSE) {
		if conn, err := net.Dial("unix", path); err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("socket %s: another shim is listening: %w", path, errdefs.ErrAlreadyExists)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the socket of a shim that is gone: %w", err)
		}
		l, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	}
	if err != nil {
		return nil, fmt.Errorf("make socket of the shim: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	f, err := l.File()
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		_ = os.Remove(path)
		return nil, fmt.Errorf("make socket of the shim: %w", err)
	}
	return f, nil
}

// addressFile is where a bundle keeps the address of its shim.
const addressFile = "address"

// writeAddress notes the address for those who come later: containerd 1.6
// after its restart, and delete.
func writeAddress(bundle, address string) error {
	path := filepath.Join(bundle, addressFile)
	temp := filepath.Join(bundle, "."+addressFile)
	if err := os.WriteFile(temp, []byte(address), 0o600); err != nil {
		return fmt.Errorf("note the address: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("note the address: %w", err)
	}
	return nil
}

// RemoveSocket removes the socket that a bundle's shim has served. That of a
// pod's container is its sandbox's and stays.
func RemoveSocket(bundle string) error {
	if role, _, err := podOf("", bundle); err == nil && role == oci.PodContainer {
		return nil
	}
	address, err := os.ReadFile(filepath.Join(bundle, addressFile))
	if err != nil || !strings.HasPrefix(string(address), scheme) {
		return err
	}
	if err := os.Remove(socketPath(string(address))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
