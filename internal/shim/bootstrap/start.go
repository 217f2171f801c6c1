package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/oci"
)

// Start does the work of start in the bundle, the working directory: it makes
// the socket and starts the process that serves it. It returns the answer for
// standard output. Where the process was started, started is called with its
// configuration and the file that this was read from, unless it is nil.
func Start(i *Invocation, stdin io.Reader, getenv func(string) string, started func(cfg config.Config, path string)) ([]byte, error) {
	request, err := Read(stdin, i, getenv("MAX_SHIM_VERSION"))
	if err != nil {
		return nil, err
	}
	bundle, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the bundle: %w", err)
	}
	role, sandbox, err := podOf(i.ID, bundle)
	if err != nil {
		return nil, err
	}
	if role == oci.PodContainer {
		address := SocketAddress(request.SocketDir, i.Address, i.Namespace, sandbox)
		if err := join(bundle, address, i.ID, sandbox); err != nil {
			return nil, err
		}
		return request.Form.Answer(address)
	}
	path, err := ConfigPath(request.Options, bundle)
	if err != nil {
		return nil, err
	}
	// The process that serves has no way to say what is wrong with it.
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	address := SocketAddress(request.SocketDir, i.Address, i.Namespace, i.ID)
	socket, err := listen(address)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	if err := serve(i, bundle, address, path, socket); err != nil {
		_ = os.Remove(socketPath(address))
		return nil, err
	}
	if started != nil {
		started(cfg, path)
	}
	return request.Form.Answer(address)
}

// serve starts the process that serves.
func serve(i *Invocation, bundle, address, configPath string, socket *os.File) error {
	if err := writeAddress(bundle, address); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	args := []string{"-namespace", i.Namespace, "-id", i.ID, "-address", i.Address}
	if configPath != "" {
		args = append(args, "-config", configPath)
	}
	if i.Debug {
		args = append(args, "-debug")
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = bundle
	mounts, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		return fmt.Errorf("open the daemon's mount namespace: %w", err)
	}
	defer mounts.Close()
	cmd.ExtraFiles = []*os.File{socket, mounts}
	// A mount namespace of its own, so that the kernel takes the sandbox's
	// mounts away with it; a session of its own, so that nobody's signals
	// reach it by accident.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the sandbox process: %w", err)
	}
	adjustOOMScore(cmd.Process.Pid)
	return cmd.Process.Release()
}

// adjustOOMScore makes the sandbox process a little more likely a victim than
// containerd. Where that is not allowed the kernel's own choice must do.
func adjustOOMScore(pid int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", os.Getppid()))
	if err != nil {
		return
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return
	}
	score = min(score+1, 1000)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(score)), 0)
}

// podOf tells what a bundle's container is to its sandbox, and which that is.
func podOf(id, bundle string) (oci.Role, string, error) {
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		// containerd's Sandbox service tells what the pod is later.
		return oci.PodSandbox, id, nil
	}
	if err != nil {
		return oci.Single, "", fmt.Errorf("read OCI spec: %w", err)
	}
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return oci.Single, "", fmt.Errorf("read OCI spec: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return oci.PodOf(id, spec.Annotations)
}

// join makes the sandbox's process that of a container's bundle, too.
func join(bundle, address, id, sandbox string) error {
	conn, err := net.Dial("unix", socketPath(address))
	if err != nil {
		return fmt.Errorf("container %s cannot join sandbox %s, whose process does not run: %w: %w", id, sandbox, err, errdefs.ErrFailedPrecondition)
	}
	_ = conn.Close()
	return writeAddress(bundle, address)
}

// Inherited are the socket that Start hands to the process that serves, and the
// mount namespace of the daemon.
func Inherited() (socket, mounts *os.File) {
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	return os.NewFile(3, "shim.sock"), os.NewFile(4, "mounts")
}
