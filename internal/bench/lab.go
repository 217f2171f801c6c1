package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/guestimage"
	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/image/reference"
	"dougong.dev/dougong/internal/record"
)

// lab is a temporary installation: what is measured in it touches neither the
// host's containers nor its images.
type lab struct {
	dir, configPath string
	// memory is where small templates are, empty when there is no such place.
	memory string
	// command is the path of the dougong binary.
	command string
	cfg     config.Config
	store   *image.Store
	root    record.Root
	// image is what containers are made of, ref its name.
	image *image.Image
	ref   string
}

// newLab makes an installation below the directory for temporary files, with
// the settings and the guest image of cfg.
func newLab(ctx context.Context, command string, cfg config.Config, ref string) (*lab, error) {
	dir, err := os.MkdirTemp("", "dougong-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a place to measure in: %w", err)
	}
	l := &lab{dir: dir, configPath: filepath.Join(dir, "config.toml"), command: command, cfg: cfg, ref: ref}
	if err := l.setUp(ctx); err != nil {
		return nil, errors.Join(err, l.remove())
	}
	return l, nil
}

func (l *lab) setUp(ctx context.Context) error {
	if l.cfg.VM.Kernel == "" || l.cfg.VM.Initrd == "" {
		guest, err := guestimage.Current(filepath.Join(l.cfg.Storage.Root, "guest"))
		if err != nil {
			return err
		}
		l.cfg.VM.Kernel, l.cfg.VM.Initrd = guest.Kernel, guest.Initrd
	}
	// Beside the place of the real ones, so that what is measured is the same.
	memory, err := os.MkdirTemp(filepath.Dir(l.cfg.Template.MemoryDir), "dougong-bench-")
	if err == nil {
		l.memory, l.cfg.Template.MemoryDir = memory, memory
	}
	l.cfg.Storage.Root, l.cfg.Runtime.State = l.path("storage"), l.path("state")
	if err := os.Chmod(l.dir, 0o711); err != nil {
		return fmt.Errorf("make a place to measure in: %w", err)
	}
	text, err := toml.Marshal(l.cfg)
	if err == nil {
		err = os.WriteFile(l.configPath, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write configuration to measure with: %w", err)
	}
	if l.root, err = record.NewRoot(l.cfg.Runtime.State); err != nil {
		return err
	}
	if l.store, err = image.Open(l.cfg.Storage.Root, image.Options{}); err != nil {
		return err
	}
	l.image, err = l.pull(ctx, l.ref)
	return err
}

func (l *lab) path(name ...string) string {
	return filepath.Join(append([]string{l.dir}, name...)...)
}

func (l *lab) pull(ctx context.Context, name string) (*image.Image, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	img, err := l.store.Pull(ctx, ref, image.PullOptions{})
	if err != nil {
		return nil, err
	}
	if img.Dir != "" {
		return nil, fmt.Errorf("image %s: a directory cannot be measured with, an image is needed", name)
	}
	return img, nil
}

// close ends what still runs and removes everything.
func (l *lab) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	dirs, err := l.root.List()
	for _, d := range dirs {
		err = errors.Join(err, run(l.dougong(ctx, "rm", "-f", d.ID)))
	}
	return errors.Join(err, l.remove())
}

func (l *lab) remove() error {
	err := os.RemoveAll(l.dir)
	if l.memory != "" {
		err = errors.Join(err, os.RemoveAll(l.memory))
	}
	return err
}

// stopTimeout is how long a command may take to end when it is asked to.
const stopTimeout = 30 * time.Second

// dougong prepares a command. When ctx ends it is asked to end, and cleans up
// behind itself.
func (l *lab) dougong(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.command, append([]string{"--config", l.configPath}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	return cmd
}

// run runs a command to its end. What it says on standard error is part of
// the error when it fails.
func run(cmd *exec.Cmd) error {
	var said bytes.Buffer
	if cmd.Stderr == nil {
		cmd.Stderr = &said
	}
	if err := cmd.Run(); err != nil {
		return failure(cmd, err, said.String())
	}
	return nil
}

// failure is the error of a command with the last thing that it said.
func failure(cmd *exec.Cmd, err error, said string) error {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, last)
	}
	return fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
}

// timed runs a command to its end and returns how many seconds it took.
func timed(cmd *exec.Cmd) (float64, error) {
	begin := time.Now()
	err := run(cmd)
	return time.Since(begin).Seconds(), err
}

// resident is a container that runs until it is stopped. It ends by itself
// when this process does, in whatever way: its standard input ends then.
type resident struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
}

// residentScript says that the container is up and waits for the end of input.
const residentScript = "echo up; exec cat"

// start starts a container and returns when it is up.
func (l *lab) start(ctx context.Context, name, image string, flags ...string) (*resident, error) {
	args := append([]string{"run", "--rm", "-i", "--name", name}, flags...)
	cmd := l.dougong(ctx, append(args, image, "sh", "-c", residentScript)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", name, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start container %s: %w", name, err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "up\n" {
		_ = stdin.Close()
		return nil, fmt.Errorf("start container %s: %w", name, failure(cmd, errors.Join(cmd.Wait(), err), said.String()))
	}
	return &resident{name: name, cmd: cmd, stdin: stdin}, nil
}

// stop ends the container and waits until nothing of it is left.
func (r *resident) stop() error {
	_ = r.stdin.Close()
	if err := r.cmd.Wait(); err != nil {
		return fmt.Errorf("stop container %s: %w", r.name, err)
	}
	return nil
}
