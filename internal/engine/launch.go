package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/socket"
)

// Engine starts and finds sandboxes below one state directory.
type Engine struct {
	Root record.Root
	// StateDir is the path behind Root, handed to the sandbox process.
	StateDir string
	// ShimPath is the sandbox process's binary.
	ShimPath string
	// ConfigPath is the configuration file for the sandbox process; empty
	// means the default one.
	ConfigPath string
}

// Launch describes a container to start in a sandbox of its own.
type Launch struct {
	Record record.Record
	Spec   *specs.Spec
	// Files are the small files that the spec names as "files:NAME".
	Files  map[string][]byte
	Rootfs []*types.Mount
	// Stdio are the URIs of the init's standard streams.
	Stdio StdioURIs
}

// StdioURIs name the files behind standard streams as the sandbox process
// understands them.
type StdioURIs struct{ Stdin, Stdout, Stderr string }

// Sandbox is a sandbox process that this process started.
type Sandbox struct {
	*Client
	Dir record.Dir

	process *exec.Cmd
	// lease tells the sandbox process that we live; see Detach.
	lease *os.File
	// given says that the bundle is the caller's.
	given bool
	// lock is the sign of life of a container that joins another's sandbox,
	// which has no process and no lease of its own.
	lock *record.Lock
}

// Prepare makes the directory of a sandbox with its bundle and starts the
// sandbox process. The container is made by Create.
func (e *Engine) Prepare(l Launch) (*Sandbox, error) {
	dir, lock, err := e.Root.Create(l.Record)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	s, err := e.prepare(dir, lock, l)
	if err != nil {
		return nil, errors.Join(err, dir.Remove())
	}
	return s, nil
}

func (e *Engine) prepare(dir record.Dir, lock *record.Lock, l Launch) (*Sandbox, error) {
	if err := makeBundle(dir.Bundle(), l); err != nil {
		return nil, err
	}
	s := &Sandbox{Dir: dir, given: l.Record.Given != ""}
	if err := e.spawn(s, lock); err != nil {
		return nil, err
	}
	client, err := Dial(dir)
	if err != nil {
		s.abandon()
		return nil, s.ended()
	}
	s.Client = client
	return s, nil
}

// makeBundle writes the bundle, or leads to the one that there is.
func makeBundle(bundle string, l Launch) error {
	if l.Record.Given == "" {
		return writeBundle(bundle, l)
	}
	if err := os.Symlink(l.Record.Given, bundle); err != nil {
		return fmt.Errorf("lead to the bundle: %w", err)
	}
	return nil
}

// writeBundle writes config.json and the small files.
func writeBundle(bundle string, l Launch) error {
	files := filepath.Join(bundle, "files")
	if err := os.MkdirAll(files, 0o700); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	config, err := json.Marshal(l.Spec)
	if err != nil {
		return fmt.Errorf("encode OCI spec: %w", err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	for name, content := range l.Files {
		if err := os.WriteFile(filepath.Join(files, name), content, 0o644); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
	}
	return nil
}

// spawn starts the sandbox process with its listening socket, its lock and
// its lease as descriptors 3, 4 and 5.
func (e *Engine) spawn(s *Sandbox, lock *record.Lock) error {
	listening, err := listenFile(s.Dir, s.Dir.Socket())
	if err != nil {
		return err
	}
	defer listening.Close()
	leaseRead, leaseWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make lease: %w", err)
	}
	defer leaseRead.Close()
	log, err := os.OpenFile(s.Dir.SandboxLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		_ = leaseWrite.Close()
		return fmt.Errorf("open log of sandbox process: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(e.ShimPath, "-serve", "-id", s.Dir.ID, "-state", e.StateDir, "-config", e.ConfigPath)
	cmd.Dir = s.Dir.Path()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{listening, lock.File(), leaseRead}
	if s.given {
		files, err := listenFile(s.Dir, s.Dir.FilesSocket())
		if err != nil {
			_ = leaseWrite.Close()
			return err
		}
		defer files.Close()
		cmd.Args = append(cmd.Args, "-files")
		cmd.ExtraFiles = append(cmd.ExtraFiles, files)
	}
	// A mount namespace of its own, so that the kernel takes the sandbox's
	// mounts away with it; a session of its own, so that the terminal's
	// signals reach it only through us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		_ = leaseWrite.Close()
		return fmt.Errorf("start sandbox process: %w", err)
	}
	s.process, s.lease = cmd, leaseWrite
	return nil
}

// listenFile makes a listening socket for the sandbox process.
func listenFile(dir record.Dir, path string) (*os.File, error) {
	listener, err := socket.Listen(dir.Path(), filepath.Base(path))
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	file, err := listener.File()
	if err != nil {
		return nil, fmt.Errorf("hand listening socket on: %w", err)
	}
	return file, nil
}

// Create boots the VM and makes the container in it.
func (s *Sandbox) Create(ctx context.Context, l Launch) error {
	_, err := s.Task.Create(ctx, &task.CreateTaskRequest{
		ID: s.Dir.ID, Bundle: cmp.Or(l.Record.Given, s.Dir.Bundle()), Rootfs: l.Rootfs, Terminal: l.Record.Terminal,
		Stdin: l.Stdio.Stdin, Stdout: l.Stdio.Stdout, Stderr: l.Stdio.Stderr,
	})
	return s.explain(err)
}

// Start runs the container's init.
func (s *Sandbox) Start(ctx context.Context) error {
	_, err := s.Task.Start(ctx, &task.StartRequest{ID: s.Dir.ID})
	return s.explain(err)
}

// explain says that the sandbox process is gone, where an error came of that.
func (s *Sandbox) explain(err error) error {
	if err == nil || !s.lost(err) {
		return err
	}
	return s.ended()
}

// ended is the error of a sandbox process that went away by itself.
func (s *Sandbox) ended() error {
	return fmt.Errorf("the sandbox process ended unexpectedly; its last words: %s", lastWords(s.Dir.SandboxLog()))
}

// Detach lets the sandbox live on without this process.
func (s *Sandbox) Detach() error { return errors.Join(s.Release(), s.Close()) }

// Release lets the sandbox live on when this process ends.
func (s *Sandbox) Release() error {
	if s.lock != nil {
		return s.lock.Close()
	}
	if _, err := s.lease.Write([]byte{'d'}); err != nil {
		return fmt.Errorf("detach from sandbox process: %w", err)
	}
	return s.lease.Close()
}

// End stops the sandbox, whatever runs in it, waits until its process is gone
// and returns what is known of its end. With AutoRemove, or when discard is
// set, nothing of it stays.
func (s *Sandbox) End(ctx context.Context, discard bool) record.Exit {
	_, _ = s.Task.Shutdown(ctx, &task.ShutdownRequest{ID: s.Dir.ID, Now: true})
	exit := record.Exit{Status: lostStatus, Time: time.Now(), Error: "the sandbox process was killed"}
	if known, err := s.Dir.Exit(); err == nil {
		exit = *known
	}
	rec, err := s.Dir.Record()
	discard = discard || err != nil || rec.AutoRemove
	_ = s.Close()
	s.abandon()
	// It is there only where the process could not remove it.
	if err := cgroup.Clear(s.Dir.Path()); err != nil {
		slog.Warn("clean up dead sandbox", "sandbox", s.Dir.ID, "error", err)
	}
	if discard {
		_ = s.Dir.Remove()
	} else {
		_ = s.Dir.WriteExit(exit)
	}
	return exit
}

// lostStatus is the exit status of a container whose sandbox was killed.
const lostStatus = 137

// abandon gives up the lease, which ends the sandbox process, and waits for it.
func (s *Sandbox) abandon() {
	if s.lock != nil {
		_ = s.lock.Close()
		return
	}
	_ = s.lease.Close()
	_ = s.process.Wait()
}
