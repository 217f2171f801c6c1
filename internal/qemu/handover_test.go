package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/vmm"
)

func TestMain(m *testing.M) {
	if err := child.Leased(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func leasedConfig() Config {
	c := unprivileged()
	c.Leased = true
	return c
}

// handOver has a machine change hands within this process.
func handOver(t *testing.T, m *Machine, spec vmm.MachineSpec) *Machine {
	t.Helper()
	files, err := m.Handles()
	if err != nil {
		t.Fatal(err)
	}
	m.Let()
	adopted, err := Adopt(Config{}, spec, m.PID(), files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(adopted.Kill)
	return adopted
}

// TestHandOver stops a machine that has just been restored, hands it on, and has
// the new owner let it go on to its end.
func TestHandOver(t *testing.T) {
	s := save(t)
	spec := s.spec
	spec.Name, spec.Saved, spec.Memory = "waiting", true, s.private(t)
	first := start(t, leasedConfig(), spec)
	state, err := os.Open(s.state.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if err := first.migrate(deadline(t), "migrate-incoming", state); err != nil {
		t.Fatal(err)
	}
	if err := first.Pause(deadline(t)); err != nil {
		t.Fatal(err)
	}
	m := handOver(t, first, spec)
	if m.PID() != first.PID() {
		t.Errorf("process %d, want %d", m.PID(), first.PID())
	}
	if err := m.Continue(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, m); err != nil {
		t.Errorf("it ended with %v", err)
	}
	<-first.Done()
}

// TestHandOverWithTaps hands one file of each tap on, and keeps none.
func TestHandOverWithTaps(t *testing.T) {
	spec := tinyMachine(t, "", hang)
	spec.NICs = []vmm.NIC{tapNIC(t, 0, 1), tapNIC(t, 1, 2), {ID: "net2", MAC: "02:00:00:00:00:02", User: &vmm.UserNetwork{}}}
	first := start(t, leasedConfig(), spec)
	m := handOver(t, first, spec)
	if left := first.Queues(); len(left) != 0 {
		t.Errorf("%d files stay behind", len(left))
	}
	queues := m.Queues()
	defer closeFiles(queues)
	if len(queues) != 2 || len(m.Queues()) != 0 {
		t.Fatalf("%d files were handed on, want one of each tap, once", len(queues))
	}
	for i, q := range queues {
		request, err := unix.NewIfreq("")
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlIfreq(int(q.Fd()), unix.TUNGETIFF, request); err != nil {
			t.Errorf("file %d is no tap: %v", i, err)
		}
		if many := request.Uint16()&unix.IFF_MULTI_QUEUE != 0; many != (i == 1) {
			t.Errorf("file %d is another tap's", i)
		}
	}
}

// TestTapsOfAMachineThatEnds are not held any longer.
func TestTapsOfAMachineThatEnds(t *testing.T) {
	spec := tinyMachine(t, "", hang)
	spec.NICs = []vmm.NIC{tapNIC(t, 0, 1)}
	m := start(t, leasedConfig(), spec)
	m.Kill()
	if left := m.Queues(); len(left) != 0 {
		t.Errorf("%d files of taps are still open", len(left))
	}
	plain := start(t, unprivileged(), spec)
	if held := plain.Queues(); len(held) != 0 {
		t.Errorf("of a machine that is not to be handed on %d are held", len(held))
	}
}

func TestAdoptedMachineIsKilled(t *testing.T) {
	spec := tinyMachine(t, "", hang)
	first := start(t, leasedConfig(), spec)
	m := handOver(t, first, spec)
	if err := unix.Kill(m.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, m); err == nil || !strings.Contains(err.Error(), "as it does when it is killed") {
		t.Errorf("it ended with %v", err)
	}
}

// TestMachineNobodyHolds lets go of a machine without handing it on.
func TestMachineNobodyHolds(t *testing.T) {
	m := start(t, leasedConfig(), tinyMachine(t, "", hang))
	m.Let()
	select {
	case <-m.Done():
	case <-deadline(t).Done():
		t.Fatal("it lives on")
	}
}

func TestHandlesOfAnOrdinaryMachine(t *testing.T) {
	m := start(t, unprivileged(), tinyMachine(t, "", hang))
	if _, err := m.Handles(); err == nil {
		t.Error("a machine that ends with this process can be handed on")
	}
}

func TestAdoptNonsense(t *testing.T) {
	open := func() *os.File {
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, n := range []int{0, 1, handles} {
		var files []*os.File
		for range n {
			files = append(files, open())
		}
		if _, err := Adopt(Config{}, vmm.MachineSpec{}, 1, files); err == nil {
			t.Errorf("%d files that are no machine's are taken", n)
		}
		for _, f := range files {
			if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("of %d files one stays open: %v", n, err)
			}
		}
	}
}

func TestReplaceDisk(t *testing.T) {
	spec := tinyMachine(t, "", hang)
	file := func(name string, flags int) *os.File {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	spec.Disks = []vmm.Disk{
		{Serial: DiskSerial(0), File: file("a", os.O_RDONLY), ReadOnly: true},
		{Serial: DiskSerial(1), File: file("b", os.O_RDWR)},
	}
	m := start(t, unprivileged(), spec)
	if err := m.Pause(deadline(t)); err != nil {
		t.Fatal(err)
	}
	for i, d := range []vmm.Disk{
		{Serial: "c", File: file("c", os.O_RDONLY), ReadOnly: true}, {Serial: "d", File: file("d", os.O_RDWR)},
	} {
		if err := m.ReplaceDisk(deadline(t), i, d); err != nil {
			t.Fatal(err)
		}
	}
	var blocks []struct {
		Qdev     string
		Inserted struct {
			NodeName string `json:"node-name"`
			RO       bool
		}
	}
	if err := m.QMP().Execute(deadline(t), "query-block", nil, &blocks); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(blocks)
	if !strings.Contains(got, "disk0-device/virtio-backend {replaced0 true}") || !strings.Contains(got, "disk1-device/virtio-backend {replaced1 false}") {
		t.Errorf("disks: %s", got)
	}
	wrong := vmm.Disk{Serial: "e", File: file("e", os.O_RDONLY)}
	if err := m.ReplaceDisk(deadline(t), 1, wrong); err == nil || !strings.Contains(err.Error(), `replace disk "e"`) {
		t.Errorf("a disk that cannot be written to: %v", err)
	}
}

func TestAddForward(t *testing.T) {
	spec := tinyMachine(t, "", hang)
	spec.NICs = []vmm.NIC{{ID: "net0", MAC: "02:00:00:00:00:01", User: &vmm.UserNetwork{}}}
	m := start(t, unprivileged(), spec)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	taken := vmm.Forward{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, GuestPort: 80}
	if err := m.AddForward(deadline(t), "net0", taken); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port that is taken: %v", err)
	}
	_ = l.Close()
	if err := m.AddForward(deadline(t), "net0", taken); err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
