package qemu

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/vmm"
)

func TestPowerOffIsNoError(t *testing.T) {
	var seen strings.Builder
	m := start(t, Config{Console: &seen}, tinyMachine(t, "hello from the guest\n", powerOff))
	if err := wait(t, m); err != nil {
		t.Errorf("Err = %v, want nil", err)
	}
	if got := m.Console(); got != "hello from the guest\n" {
		t.Errorf("console = %q", got)
	}
	if seen.String() != m.Console() {
		t.Errorf("Config.Console got %q", seen.String())
	}
	if _, err := m.Agent().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the agent's line after the end: %v, want io.EOF", err)
	}
}

func TestGuestEnds(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		end        []byte
		reason     Reason
		detail     string
	}{
		{"reset", "bye\n", reset, ReasonReset, ""},
		{"panic and reset", "[    0.1] Kernel panic - not syncing: VFS: Unable to mount root fs\n[    0.2] Rebooting\n", reset, ReasonPanic, "not syncing: VFS: Unable to mount root fs"},
		{"reported panic", "bye\n", reportPanic, ReasonPanic, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := start(t, Config{}, tinyMachine(t, tc.text, tc.end))
			err := wait(t, m)
			var x *ExitError
			if !errors.As(err, &x) || x.Reason != tc.reason || x.Detail != tc.detail {
				t.Fatalf("Err = %#v", err)
			}
			last := lastLines(tc.text, 1)[0]
			if !strings.HasSuffix(err.Error(), "\n  "+last) {
				t.Errorf("text = %q, want the console's last lines", err)
			}
		})
	}
}

func TestKill(t *testing.T) {
	m := start(t, Config{}, tinyMachine(t, "", hang))
	if m.Err() != nil {
		t.Errorf("Err = %v while it runs", m.Err())
	}
	m.Kill()
	m.Kill()
	var x *ExitError
	if !errors.As(m.Err(), &x) || x.Reason != ReasonKilled || x.Signal != syscall.SIGKILL {
		t.Errorf("Err = %v", m.Err())
	}
}

func TestSignalFromElsewhere(t *testing.T) {
	for signal, want := range map[syscall.Signal]string{
		syscall.SIGKILL: "killed by SIGKILL",
		syscall.SIGTERM: "a signal of the host",
		syscall.SIGSEGV: "killed by segmentation fault",
	} {
		t.Run(signal.String(), func(t *testing.T) {
			m := start(t, Config{}, tinyMachine(t, "", hang))
			if err := syscall.Kill(m.PID(), signal); err != nil {
				t.Fatal(err)
			}
			if err := wait(t, m); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Err = %v, want …%s…", err, want)
			}
		})
	}
}

func TestQuit(t *testing.T) {
	m := start(t, Config{}, tinyMachine(t, "", hang))
	if err := m.Quit(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if m.Err() != nil {
		t.Errorf("Err = %v", m.Err())
	}
	if err := m.Quit(deadline(t)); err != nil {
		t.Errorf("second Quit = %v", err)
	}
}

// A QEMU that does not answer must be gone when Quit's time is up.
func TestQuitKillsInTheEnd(t *testing.T) {
	m := start(t, Config{}, tinyMachine(t, "", hang))
	if err := syscall.Kill(m.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.Quit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Quit = %v", err)
	}
	select {
	case <-m.Done():
	default:
		t.Error("QEMU is still there")
	}
}

func TestNothingIsLeft(t *testing.T) {
	run := func() {
		m, err := Start(deadline(t), Config{}, tinyMachine(t, "", powerOff))
		if err != nil {
			t.Fatal(err)
		}
		_ = wait(t, m)
		m.Kill() // gives up the agent's line
	}
	run() // the runtime opens files of its own at the first use
	checkLeaks(t, run)
}

// Each way in which a start can fail must say what is wrong, and leave
// nothing.
func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := uint16(taken.Addr().(*net.TCPAddr).Port)
	broken, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	forward := func(ip string, port uint16) []vmm.NIC {
		return []vmm.NIC{{ID: "net0", MAC: "02:00:00:00:00:01", User: &vmm.UserNetwork{
			Forwards: []vmm.Forward{{Protocol: "tcp", HostIP: ip, HostPort: port, GuestPort: 80}},
		}}}
	}
	for _, tc := range []struct {
		name string
		edit func(*Config, *vmm.MachineSpec)
		is   error
		text string
	}{
		{"bad spec", func(_ *Config, s *vmm.MachineSpec) { s.CPUs = 0 }, errdefs.ErrInvalidArgument, "0 CPUs"},
		{"no QEMU", func(c *Config, _ *vmm.MachineSpec) { c.Binary = "/none/qemu" }, errdefs.ErrNotFound, "install the package qemu-system-x86"},
		{"not a QEMU", func(c *Config, _ *vmm.MachineSpec) { c.Binary = "/bin/false" }, nil, "QEMU ended: without a word (exit status 1)"},
		{"no program", func(c *Config, s *vmm.MachineSpec) { c.Binary = s.Kernel }, nil, "permission denied"},
		{"port in use", func(_ *Config, s *vmm.MachineSpec) { s.NICs = forward("127.0.0.1", port) }, errdefs.ErrUnavailable, "host port " + strconv.Itoa(int(port)) + "/tcp of 127.0.0.1 is in use"},
		{"no such address", func(_ *Config, s *vmm.MachineSpec) { s.NICs = forward("192.0.2.1", 8080) }, errdefs.ErrInvalidArgument, "the host has no such address"},
		{"too much memory", func(_ *Config, s *vmm.MachineSpec) { s.MemoryMiB = 1 << 27 }, errdefs.ErrResourceExhausted, "not enough memory for a guest of 134217728 MiB"},
		{"no kernel", func(_ *Config, s *vmm.MachineSpec) { s.Kernel += ".gone" }, os.ErrNotExist, "kernel: open "},
		{"no initramfs", func(_ *Config, s *vmm.MachineSpec) { s.Initrd += ".gone" }, os.ErrNotExist, "initramfs: open "},
		{"not a kernel", func(_ *Config, s *vmm.MachineSpec) { s.Kernel = s.Initrd }, errdefs.ErrFailedPrecondition, "initrd cannot be loaded"},
		{"disk without file", func(_ *Config, s *vmm.MachineSpec) { s.Disks = []vmm.Disk{{Serial: "a"}} }, nil, "no file"},
		{"disk opened wrongly", func(_ *Config, s *vmm.MachineSpec) { s.Disks = []vmm.Disk{{Serial: "a", File: broken, ReadOnly: true}} }, nil, "is not open for reading only"},
		{"share without socket", func(_ *Config, s *vmm.MachineSpec) { s.Shares = []vmm.Share{{Tag: "a"}} }, nil, "no socket"},
		{"share with no daemon", func(_ *Config, s *vmm.MachineSpec) { s.Shares = []vmm.Share{{Tag: "a", Socket: broken}} }, nil, "QEMU ended: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec, config := tinyMachine(t, "", hang), Config{}
			tc.edit(&config, &spec)
			checkLeaks(t, func() {
				m, err := Start(deadline(t), config, spec)
				if err == nil {
					m.Kill()
					t.Fatal("no error")
				}
				if tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("err = %v\nwant %v, …%s…", err, tc.is, tc.text)
				}
			})
		})
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	spec := tinyMachine(t, "", hang)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	checkLeaks(t, func() {
		if _, err := Start(ctx, Config{}, spec); !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v, want Canceled", err)
		}
	})
}

// A program that never speaks QMP must not hold Start past its context.
func TestStartOfAMuteQEMU(t *testing.T) {
	spec := tinyMachine(t, "", hang)
	mute := script(t, t.TempDir(), "mute", "exec sleep 1000")
	ctx, cancel := context.WithTimeout(context.Background(), 100_000_000)
	defer cancel()
	checkLeaks(t, func() {
		if _, err := Start(ctx, Config{Binary: mute}, spec); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v, want DeadlineExceeded", err)
		}
	})
}

func TestDisksAreInherited(t *testing.T) {
	spec := tinyMachine(t, "", hang)
	hidden := t.TempDir()
	if err := os.Chmod(hidden, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		serial string
		flags  int
	}{{"rootfs", os.O_RDONLY}, {"data,1", os.O_RDWR}} {
		path := hidden + "/" + d.serial
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, d.flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		spec.Disks = append(spec.Disks, vmm.Disk{Serial: d.serial, File: f, ReadOnly: d.flags == os.O_RDONLY})
	}
	m := start(t, unprivileged(), spec)
	var nodes []struct {
		Node string `json:"node-name"`
		RO   bool   `json:"ro"`
	}
	if err := m.QMP().Execute(deadline(t), "query-named-block-nodes", nil, &nodes); err != nil {
		t.Fatal(err)
	}
	readOnly := make(map[string]bool)
	for _, n := range nodes {
		readOnly[n.Node] = n.RO
	}
	if len(nodes) != 2 || !readOnly["disk0"] || readOnly["disk1"] {
		t.Errorf("nodes = %+v", nodes)
	}
	var serial string
	get := map[string]string{"path": "/machine/peripheral/disk1-device", "property": "serial"}
	if err := m.QMP().Execute(deadline(t), "qom-get", get, &serial); err != nil || serial != "data,1" {
		t.Errorf("serial = %q, %v", serial, err)
	}
}

func TestHotplugPorts(t *testing.T) {
	m := start(t, Config{}, tinyMachine(t, "", hang))
	for port := range HotplugPorts {
		args := map[string]any{"driver": "virtio-rng-pci", "rng": "entropy", "id": "plugged" + strconv.Itoa(port), "bus": HotplugBus(port)}
		if err := m.QMP().Execute(deadline(t), "device_add", args, nil); err != nil {
			t.Error(err)
		}
	}
}

// unprivileged is a configuration with an own user where that is possible.
func unprivileged() Config {
	if os.Geteuid() != 0 {
		return Config{}
	}
	return Config{UID: 65534, GID: 65534}
}
