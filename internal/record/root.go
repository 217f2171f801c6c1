package record

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// names holds one symbolic link for each name. No sandbox id starts with a dot.
const names = ".names"

var (
	validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)
	validID   = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,75}$`)
)

// Root is the directory that holds all sandboxes, by default /run/dougong.
type Root struct{ path string }

// NewRoot returns the root at path and makes it when missing.
func NewRoot(path string) (Root, error) {
	if err := os.MkdirAll(filepath.Join(path, names), 0o711); err != nil {
		return Root{}, fmt.Errorf("make state directory: %w", err)
	}
	return Root{path: path}, nil
}

// At returns the root at path, which need not exist.
func At(path string) Root { return Root{path: path} }

// NewID returns 64 random hexadecimal digits, the ids that Docker users know.
func NewID() string {
	var b [32]byte
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Create makes the directory of a new sandbox, takes its name and its lock.
// The lock is handed on to the sandbox process; whoever holds it last decides
// how long the sandbox counts as alive.
// It returns errdefs.ErrAlreadyExists when the name is taken.
func (r Root) Create(rec Record) (Dir, *Lock, error) {
	if !validID.MatchString(rec.ID) {
		return Dir{}, nil, fmt.Errorf("container id %q: want at most 76 letters, digits, '_', '.' and '-', starting with a letter or digit: %w", rec.ID, errdefs.ErrInvalidArgument)
	}
	if !validName.MatchString(rec.Name) {
		return Dir{}, nil, fmt.Errorf("name %q: want letters, digits, '_', '.' and '-', starting with a letter or digit: %w", rec.Name, errdefs.ErrInvalidArgument)
	}
	d := Dir{ID: rec.ID, root: r.path}
	lock, err := r.stage(d)
	if err != nil {
		return Dir{}, nil, err
	}
	if err := r.fill(d, rec); err != nil {
		_ = os.RemoveAll(d.Path())
		_ = lock.Close()
		return Dir{}, nil, err
	}
	return d, lock, nil
}

// stage makes the directory of a sandbox, which appears with its lock already
// held: a sweeper that runs at this moment would take it for a dead one. One
// that comes before the lock is held does so, and then it is made once more.
func (r Root) stage(d Dir) (*Lock, error) {
	for {
		staging, err := os.MkdirTemp(r.path, stagingPrefix)
		if err != nil {
			return nil, fmt.Errorf("make directory of sandbox: %w", err)
		}
		lock, err := acquire(filepath.Join(staging, fileLock), os.O_CREATE)
		if err == nil {
			if err = os.Rename(staging, d.Path()); err == nil {
				return lock, nil
			}
			_ = lock.Close()
		}
		_ = os.RemoveAll(staging)
		switch {
		case errors.Is(err, errLocked) || errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY):
			return nil, fmt.Errorf("container with id %q exists already: %w", d.ID, errdefs.ErrAlreadyExists)
		default:
			return nil, fmt.Errorf("make directory of sandbox: %w", err)
		}
	}
}

// stagingPrefix begins the names of directories that are being made.
const stagingPrefix = ".new-"

func (r Root) fill(d Dir, rec Record) error {
	if err := d.write(fileRecord, rec); err != nil {
		return err
	}
	return r.takeName(rec.Name, d.ID)
}

// takeName links name to id. A link to a directory that is gone is free.
func (r Root) takeName(name, id string) error {
	link := filepath.Join(r.path, names, name)
	for {
		err := os.Symlink(filepath.Join("..", id), link)
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("take name %q: %w", name, err)
		}
		if _, err := os.Stat(link); err == nil {
			owner, _ := os.Readlink(link)
			return fmt.Errorf("name %q is taken by container %s; remove it with 'dougong rm %s' or choose another --name: %w",
				name, shortID(filepath.Base(owner)), name, errdefs.ErrAlreadyExists)
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("free stale name %q: %w", name, err)
		}
	}
}

func shortID(id string) string { return id[:min(12, len(id))] }

// Find returns the sandbox with this id, name, or unique beginning of an id.
func (r Root) Find(ref string) (Dir, error) {
	if validName.MatchString(ref) {
		if target, err := os.Readlink(filepath.Join(r.path, names, ref)); err == nil {
			d := Dir{ID: filepath.Base(target), root: r.path}
			if _, err := os.Stat(d.Path()); err == nil {
				return d, nil
			}
		}
	}
	all, err := r.List()
	if err != nil {
		return Dir{}, err
	}
	found := slices.DeleteFunc(all, func(d Dir) bool { return ref == "" || !strings.HasPrefix(d.ID, ref) })
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Dir{}, fmt.Errorf("no such container: %q (see 'dougong ps -a'): %w", ref, errdefs.ErrNotFound)
	}
	return Dir{}, fmt.Errorf("%q is the beginning of %d container ids; give more of it: %w", ref, len(found), errdefs.ErrInvalidArgument)
}

// Get returns the sandbox of exactly this id.
func (r Root) Get(id string) (Dir, error) {
	d := Dir{ID: id, root: r.path}
	if validID.MatchString(id) {
		if _, err := os.Stat(d.Path()); err == nil {
			return d, nil
		}
	}
	return Dir{}, fmt.Errorf("container %q does not exist: %w", id, errdefs.ErrNotFound)
}

// List returns all sandboxes, in the order of their ids.
func (r Root) List() ([]Dir, error) {
	entries, err := os.ReadDir(r.path)
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	var dirs []Dir
	for _, e := range entries {
		if e.IsDir() && validID.MatchString(e.Name()) {
			dirs = append(dirs, Dir{ID: e.Name(), root: r.path})
		}
	}
	return dirs, nil
}

// Remove deletes a sandbox's directory and frees its name.
func (d Dir) Remove() error {
	if rec, err := d.Record(); err == nil && validName.MatchString(rec.Name) {
		link := filepath.Join(d.root, names, rec.Name)
		if target, err := os.Readlink(link); err == nil && filepath.Base(target) == d.ID {
			_ = os.Remove(link)
		}
	}
	// Out of everybody's way first: a sweeper that finds it without its lock
	// would note the end in it.
	gone, err := os.MkdirTemp(d.root, stagingPrefix)
	if err == nil {
		err = os.Rename(d.Path(), filepath.Join(gone, d.ID))
		if rerr := os.RemoveAll(gone); err == nil {
			err = rerr
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove state of sandbox %s: %w", d.ID, err)
	}
	return nil
}

// Alive reports whether the sandbox process (or the command that is about to
// start it) still lives.
func (d Dir) Alive() bool {
	lock, err := acquire(filepath.Join(d.Path(), fileLock), 0)
	if err != nil {
		return errors.Is(err, errLocked)
	}
	_ = lock.Close()
	return false
}

// Sweep cleans up after sandboxes whose process was killed: what was to be
// removed automatically is removed, of the rest the end is noted. Before that
// each of also is called for them.
func (r Root) Sweep(also ...func(Dir) error) error {
	dirs, err := r.List()
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if d.Alive() {
			continue
		}
		for _, f := range also {
			if err := f(d); err != nil {
				slog.Warn("clean up dead sandbox", "sandbox", d.ID, "error", err)
			}
		}
		if err := d.settle(); err != nil {
			slog.Warn("clean up dead sandbox", "sandbox", d.ID, "error", err)
		}
	}
	return r.sweepStaging()
}

func (d Dir) settle() error {
	rec, err := d.Record()
	if err != nil || rec.AutoRemove {
		return d.Remove()
	}
	if _, err := d.Exit(); errdefs.IsNotFound(err) {
		_ = os.Remove(d.Socket())
		return d.WriteExit(Exit{Status: 255, Time: time.Now(), Error: "the sandbox process was killed"})
	}
	return nil
}

// stagingTime is far longer than a directory takes until it has its lock.
const stagingTime = time.Minute

// sweepStaging removes directories whose creator died before they were complete.
func (r Root) sweepStaging() error {
	stale, err := filepath.Glob(filepath.Join(r.path, stagingPrefix+"*"))
	if err != nil {
		return fmt.Errorf("list sandboxes being made: %w", err)
	}
	for _, path := range stale {
		sweepStaged(path)
	}
	return nil
}

func sweepStaged(path string) {
	locked := filepath.Join(path, fileLock)
	if _, err := os.Lstat(locked); err != nil {
		// Its creator is about to lock it, or has died before it could.
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > stagingTime {
			_ = os.RemoveAll(path)
		}
		return
	}
	lock, err := acquire(locked, 0)
	if err != nil {
		return
	}
	_ = os.RemoveAll(path)
	_ = lock.Close()
}
