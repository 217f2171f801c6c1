package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"dougong.dev/dougong/internal/record"
)

// Join makes the directory of a container that is to be made in the sandbox of
// another one, host. Whoever looks for its sandbox there finds the other's; the
// container is made by Create.
func (e *Engine) Join(l Launch, host record.Dir) (*Sandbox, error) {
	l.Record.Sandbox = host.ID
	dir, lock, err := e.Root.Create(l.Record)
	if err != nil {
		return nil, err
	}
	s, err := join(dir, lock, l, host)
	if err != nil {
		return nil, errors.Join(err, lock.Close(), dir.Remove())
	}
	return s, nil
}

func join(dir record.Dir, lock *record.Lock, l Launch, host record.Dir) (*Sandbox, error) {
	if err := makeBundle(dir.Bundle(), l); err != nil {
		return nil, err
	}
	for _, pair := range [][2]string{{host.Socket(), dir.Socket()}, {host.FilesSocket(), dir.FilesSocket()}} {
		target, err := filepath.Rel(dir.Path(), pair[0])
		if err == nil {
			err = os.Symlink(target, pair[1])
		}
		if err != nil {
			return nil, fmt.Errorf("lead to the sandbox of container %s: %w", host.ID, err)
		}
	}
	client, err := Dial(dir)
	if err != nil {
		return nil, fmt.Errorf("join the sandbox of container %s: %w", host.ID, err)
	}
	return &Sandbox{Client: client, Dir: dir, given: true, lock: lock}, nil
}

// Lock is what the sandbox process has to hold as long as the container lives,
// nil where it has it already.
func (s *Sandbox) Lock() *os.File {
	if s.lock == nil {
		return nil
	}
	return s.lock.File()
}
