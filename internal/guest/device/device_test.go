package device

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// machine is a sysfs and a /dev made of files, whose events come by a pipe.
type machine struct {
	*testing.T
	*Finder
	event      *os.File
	subscribed chan struct{}
}

func newMachine(t *testing.T) *machine {
	m := &machine{T: t, subscribed: make(chan struct{}, 1)}
	r, w, err := os.Pipe()
	m.check(err)
	m.event = w
	m.Finder = &Finder{Sys: t.TempDir(), Dev: t.TempDir(), Events: func() (Events, error) {
		m.subscribed <- struct{}{}
		return r, nil
	}}
	t.Cleanup(func() { _ = w.Close() })
	return m
}

func (m *machine) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) plug(class, name, attribute, value string) {
	dir := filepath.Join(m.Sys, class, name)
	m.check(os.MkdirAll(dir, 0o755))
	m.check(os.WriteFile(filepath.Join(dir, attribute), []byte(value+"\n"), 0o644))
	m.check(os.WriteFile(filepath.Join(m.Dev, name), nil, 0o644))
}

func TestDiskThatIsThere(t *testing.T) {
	m := newMachine(t)
	m.plug("block", "vda", "serial", "layer-0")
	m.plug("block", "vdb", "serial", "layer-1")
	got, err := m.Disk(t.Context(), "layer-1")
	if err != nil || got != filepath.Join(m.Dev, "vdb") {
		t.Fatal(got, err)
	}
}

func TestDiskThatComes(t *testing.T) {
	m := newMachine(t)
	found := make(chan string, 1)
	go func() {
		node, err := m.Disk(t.Context(), "late")
		if err != nil {
			t.Error(err)
		}
		found <- node
	}()
	<-m.subscribed
	m.plug("block", "vda", "serial", "other")
	_, _ = m.event.WriteString("add")
	m.plug("block", "vdb", "serial", "late")
	_, _ = m.event.WriteString("add")
	if got := <-found; got != filepath.Join(m.Dev, "vdb") {
		t.Fatal(got)
	}
}

func TestDeviceThatNeverComes(t *testing.T) {
	m := newMachine(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := m.Port(ctx, "nope"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestPort(t *testing.T) {
	m := newMachine(t)
	m.plug("class/virtio-ports", "vport1p1", "name", "dev.dougong.agent")
	got, err := m.Port(t.Context(), "dev.dougong.agent")
	if err != nil || got != filepath.Join(m.Dev, "vport1p1") {
		t.Fatal(got, err)
	}
}

func TestKernelEvents(t *testing.T) {
	events, err := System().Events()
	if err != nil {
		t.Fatal(err)
	}
	_ = events.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := events.Read(make([]byte, 8<<10)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = events.Close()
}
