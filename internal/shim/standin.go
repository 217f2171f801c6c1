package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/child"
)

// standInName is what the stand-in of a container is called in the list of
// processes.
const standInName = "dougong-container"

// standInTimeout bounds the start of a stand-in.
const standInTimeout = 10 * time.Second

// A stand-in is the process whose id is reported as that of a container's
// init. Clients look at a process on the host: they copy files by way of
// /proc/PID/root, or signal it. The guest's id would be a stranger's, and the
// root of the sandbox process is that of the host.
type standIn struct{ *child.Process }

// startStandIn starts a process with this root directory.
func startStandIn(id, root string) (*standIn, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start stand-in: %w", err)
	}
	defer ready.Close()
	cmd := exec.Command(self)
	cmd.Args = []string{standInName, id, root}
	cmd.Env = []string{"GOMAXPROCS=1"}
	cmd.ExtraFiles = []*os.File{theirs}
	process, err := child.Start(cmd)
	_ = theirs.Close()
	if err != nil {
		return nil, err
	}
	_ = ready.SetReadDeadline(time.Now().Add(standInTimeout))
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		process.Kill()
		return nil, fmt.Errorf("stand-in of container %s with root %s does not come up: %w", id, root, err)
	}
	return &standIn{process}, nil
}

// IsStandIn reports whether this process was started as a stand-in.
func IsStandIn(args []string) bool { return len(args) == 3 && args[0] == standInName }

// StandIn is the whole life of a stand-in. It returns only with an error.
func StandIn(args []string) error {
	if err := errors.Join(unix.Chroot(args[2]), unix.Chdir("/")); err != nil {
		return fmt.Errorf("change root to %s: %w", args[2], err)
	}
	if _, err := unix.Write(3, []byte{1}); err != nil {
		return fmt.Errorf("say that we are ready: %w", err)
	}
	_ = unix.Close(3)
	for {
		_ = unix.Pause()
	}
}

// standInRoot is the root directory of a container as the host sees it, or an
// empty one where the host does not see it.
func standInRoot(bundle, root string) (string, error) {
	if root != "" {
		return root, nil
	}
	empty := filepath.Join(stateDir(bundle), "empty")
	if err := os.MkdirAll(empty, 0o500); err != nil {
		return "", fmt.Errorf("make an empty root directory: %w", err)
	}
	return empty, nil
}
