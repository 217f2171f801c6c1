package qemu

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/vmm"
)

// Where the guest of these tests looks for its flag, and where it leaves a
// mark when it has seen it.
const (
	flagAt = 0x200000
	markAt = flagAt + 1
	mark   = 7
)

// awaitFlag spins until the flag is set, leaves the mark and powers off:
// 1: cmpb $0,flag; je 1b; movb $mark,flag+1.
var awaitFlag = append([]byte{
	0x80, 0x3d, 0x00, 0x00, 0x20, 0x00, 0x00, 0x74, 0xf7,
	0xc6, 0x05, 0x01, 0x00, 0x20, 0x00, mark,
}, powerOff...)

// savedMachine is a saved machine of which others can go on.
type savedMachine struct {
	spec vmm.MachineSpec
	// memory is the path of a file in a directory of its own.
	memory string
	state  *os.File
}

// save runs a machine until it waits for its flag, saves it, and sets the flag.
func save(t *testing.T) savedMachine {
	t.Helper()
	s := savedMachine{spec: tinyMachine(t, "up\n", awaitFlag), memory: filepath.Join(t.TempDir(), "memory")}
	s.spec.KeepsMemory = true
	memory := memoryFile(t, s.memory, int64(s.spec.MemoryMiB)<<20)
	state, err := os.Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { state.Close() })
	s.state = state
	spec := s.spec
	spec.Memory = &vmm.Memory{File: memory}
	var console watchedConsole
	console.wants, console.seen = "up\n", make(chan struct{})
	m := start(t, Config{UID: unprivileged().UID, GID: unprivileged().GID, Console: &console}, spec)
	select {
	case <-console.seen:
	case <-deadline(t).Done():
		t.Fatalf("the guest does not come up: %q", m.Console())
	}
	if err := m.Save(deadline(t), state); err != nil {
		t.Fatal(err)
	}
	m.Kill()
	if _, err := memory.WriteAt([]byte{1}, flagAt); err != nil {
		t.Fatal(err)
	}
	return s
}

// watchedConsole tells when the guest has printed something.
type watchedConsole struct {
	buf   bytes.Buffer
	wants string
	seen  chan struct{}
}

func (w *watchedConsole) Write(p []byte) (int, error) {
	had := strings.Contains(w.buf.String(), w.wants)
	w.buf.Write(p)
	if !had && strings.Contains(w.buf.String(), w.wants) {
		close(w.seen)
	}
	return len(p), nil
}

func memoryFile(t *testing.T, path string, size int64) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Chmod(0o666); err != nil {
		t.Fatal(err)
	}
	return f
}

// private is the saved memory as the clones share it, in a directory that
// QEMU's user cannot reach by its path.
func (s savedMachine) private(t *testing.T) *vmm.Memory {
	t.Helper()
	if err := os.Chmod(filepath.Dir(s.memory), 0o711); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(filepath.Dir(s.memory), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := os.NewFile(uintptr(fd), "memory")
	t.Cleanup(func() { dir.Close() })
	return &vmm.Memory{File: dir, Name: filepath.Base(s.memory), Private: true}
}

// resume has a clone go on until it powers off.
func (s savedMachine) resume(t *testing.T, memory *vmm.Memory) {
	t.Helper()
	spec := s.spec
	spec.Name, spec.Saved, spec.Memory = "clone", true, memory
	m := start(t, unprivileged(), spec)
	state, err := os.Open(s.state.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if err := m.Resume(deadline(t), state); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, m); err != nil {
		t.Errorf("the clone ended with %v", err)
	}
	if text := m.Console(); text != "" {
		t.Errorf("the clone printed %q: it was started anew", text)
	}
}

func markIn(t *testing.T, memory *os.File) byte {
	t.Helper()
	var b [1]byte
	if _, err := memory.ReadAt(b[:], markAt); err != nil {
		t.Fatal(err)
	}
	return b[0]
}

// TestClones start one after the other on the same private memory, and none
// sees what another has written.
func TestClones(t *testing.T) {
	s := save(t)
	before, err := os.ReadFile(s.memory)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.resume(t, s.private(t))
	}
	after, err := os.ReadFile(s.memory)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("a clone changed the saved memory")
	}
}

// TestCloneOfACopy writes to its memory for all to see.
func TestCloneOfACopy(t *testing.T) {
	s := save(t)
	f, err := os.OpenFile(s.memory, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s.resume(t, &vmm.Memory{File: f})
	if got := markIn(t, f); got != mark {
		t.Errorf("the clone left %d in its memory, want %d", got, mark)
	}
}

// TestResumeOfADamagedState must end in an error soon, and never in a guest
// that runs.
func TestResumeOfADamagedState(t *testing.T) {
	s := save(t)
	whole, err := os.ReadFile(s.state.Name())
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "junk": []byte(strings.Repeat("junk", 1000)), "cut off": whole[:len(whole)/2],
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			state, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer state.Close()
			spec := s.spec
			spec.Saved, spec.Memory = true, s.private(t)
			m := start(t, unprivileged(), spec)
			if err := m.Resume(deadline(t), state); err == nil {
				t.Error("no error")
			}
			m.Kill()
		})
	}
}
