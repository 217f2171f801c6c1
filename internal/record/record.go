package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
)

// Record is what is known about a sandbox from its creation on.
type Record struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Image      string            `json:"image"`
	ImageID    string            `json:"imageId,omitempty"`
	Command    []string          `json:"command"`
	Created    time.Time         `json:"created"`
	Labels     map[string]string `json:"labels,omitempty"`
	Ports      []string          `json:"ports,omitempty"`
	Terminal   bool              `json:"terminal"`
	StopSignal string            `json:"stopSignal"`
	// AutoRemove deletes the directory as soon as the sandbox has ended.
	AutoRemove bool `json:"autoRemove"`
	// Given is the bundle of a container that was made by the OCI commands,
	// empty for others.
	Given string `json:"bundle,omitempty"`
	// Sandbox is the id of the container in whose virtual machine this one is,
	// empty where it has one of its own.
	Sandbox string `json:"sandbox,omitempty"`
	// Attached says that the sandbox ends with the command that started it.
	Attached bool `json:"attached"`
}

// Exit is what is known about the end of a sandbox.
type Exit struct {
	// Status is the exit status of the container's init, 128+n after signal n.
	Status int `json:"status"`
	// Time is when it ended, or when its end was noticed.
	Time time.Time `json:"time"`
	// Error is set when the container did not end by itself: the VM died, or
	// it could not be started at all.
	Error string `json:"error,omitempty"`
}

// Dir is the directory of one sandbox.
type Dir struct {
	ID   string
	root string
}

// Files of a sandbox's directory.
const (
	fileRecord  = "record.json"
	fileExit    = "exit.json"
	fileLock    = "lock"
	fileStarted = "started"
	fileStart   = "start.json"
	fileProcess = "process"
)

// Path returns the directory itself.
func (d Dir) Path() string { return filepath.Join(d.root, d.ID) }

// Bundle returns the directory of the container's OCI bundle.
func (d Dir) Bundle() string { return filepath.Join(d.Path(), "bundle") }

// Socket returns the path of the sandbox's Task service.
func (d Dir) Socket() string { return filepath.Join(d.Path(), "task.sock") }

// FilesSocket returns the path of the socket by which files are handed over.
func (d Dir) FilesSocket() string { return filepath.Join(d.Path(), "files.sock") }

// Empty returns an empty directory.
func (d Dir) Empty() string { return filepath.Join(d.Path(), "empty") }

// FIFOs returns the directory below which commands make FIFOs.
func (d Dir) FIFOs() string { return filepath.Join(d.Path(), "io") }

// SandboxLog returns the path of the sandbox process's own log.
func (d Dir) SandboxLog() string { return filepath.Join(d.Path(), "sandbox.log") }

// ContainerLog returns the path of the container's output.
func (d Dir) ContainerLog() string { return filepath.Join(d.Path(), "container.log") }

// Record reads the sandbox's record.
func (d Dir) Record() (*Record, error) {
	r := new(Record)
	return r, d.read(fileRecord, r)
}

// Exit reads how the sandbox ended; errdefs.ErrNotFound while it has not.
func (d Dir) Exit() (*Exit, error) {
	e := new(Exit)
	if err := d.read(fileExit, e); err != nil {
		return nil, err
	}
	return e, nil
}

// WriteExit notes the end of the sandbox. The first note stays.
func (d Dir) WriteExit(e Exit) error {
	if _, err := d.Exit(); err == nil {
		return nil
	}
	return d.write(fileExit, e)
}

// MarkStarted notes the time at which the container's init was started.
func (d Dir) MarkStarted(t time.Time) error { return d.write(fileStarted, t) }

// Started returns the time of MarkStarted; errdefs.ErrNotFound before it.
func (d Dir) Started() (time.Time, error) {
	var t time.Time
	err := d.read(fileStarted, &t)
	return t, err
}

// WriteProcess notes the process of the host that stands for the container.
func (d Dir) WriteProcess(pid int) error { return d.write(fileProcess, pid) }

// Process returns the id of WriteProcess; errdefs.ErrNotFound before it. It is
// that of the process only while the container runs.
func (d Dir) Process() (int, error) {
	var pid int
	err := d.read(fileProcess, &pid)
	return pid, err
}

// WriteStart notes the phases of the start, in the caller's own form.
func (d Dir) WriteStart(phases any) error { return d.write(fileStart, phases) }

// Start reads what WriteStart noted; errdefs.ErrNotFound before it.
func (d Dir) Start(phases any) error { return d.read(fileStart, phases) }

func (d Dir) read(name string, v any) error {
	data, err := os.ReadFile(filepath.Join(d.Path(), name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sandbox %s has no %s: %w", d.ID, name, errdefs.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("read state of sandbox %s: %w", d.ID, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("state of sandbox %s in %s is damaged: %w", d.ID, name, err)
	}
	return nil
}

// write replaces a file in one step, so that a reader never sees half of it.
func (d Dir) write(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state of sandbox %s: %w", d.ID, err)
	}
	path := filepath.Join(d.Path(), name)
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write state of sandbox %s: %w", d.ID, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write state of sandbox %s: %w", d.ID, err)
	}
	return nil
}
