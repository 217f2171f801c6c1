package qemu

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"dougong.dev/dougong/internal/vmm"
)

var update = flag.Bool("update", false, "write the golden files anew")

// minimal is the smallest machine there is.
func minimal() vmm.MachineSpec {
	return vmm.MachineSpec{
		Name:        "web",
		Accelerator: vmm.TCG,
		CPUs:        1,
		MemoryMiB:   256,
		Kernel:      "/var/lib/dougong/guest/vmlinux",
		Initrd:      "/var/lib/dougong/guest/initrd",
		Cmdline:     "console=ttyS0 quiet panic=-1",
	}
}

var minimalFDs = FDs{QMP: 3, Agent: 4, Console: 5, Kernel: 6, Initrd: 7}

func TestArgsGolden(t *testing.T) {
	user := func(n vmm.UserNetwork) []vmm.NIC {
		return []vmm.NIC{{ID: "net0", MAC: "02:00:00:00:00:01", User: &n}}
	}
	for _, tc := range []struct {
		name string
		spec func(*vmm.MachineSpec, *FDs)
	}{
		{"minimal", func(*vmm.MachineSpec, *FDs) {}},
		{"kvm", func(s *vmm.MachineSpec, _ *FDs) { s.Accelerator, s.CPUs, s.MaxCPUs = vmm.KVM, 2, 4 }},
		{"room-to-grow", func(s *vmm.MachineSpec, _ *FDs) { s.MaxCPUs, s.MaxMemoryMiB = 4, 2100 }},
		{"room-to-grow-kvm", func(s *vmm.MachineSpec, _ *FDs) {
			s.Accelerator, s.CPUs, s.MaxCPUs, s.MaxMemoryMiB = vmm.KVM, 2, 16, 65536
		}},
		{"disks", func(s *vmm.MachineSpec, f *FDs) {
			s.Disks = []vmm.Disk{{Serial: "rootfs", ReadOnly: true}, {Serial: "a,b"}, {Serial: "block"}, {Serial: "roblock", ReadOnly: true}}
			f.Disks = []DiskFD{{FD: 8}, {FD: 9}, {FD: 10, Block: true}, {FD: 11, Block: true}}
		}},
		{"tap", func(s *vmm.MachineSpec, f *FDs) {
			s.NICs = []vmm.NIC{{ID: "net0", MAC: "02:00:00:00:00:01", Tap: queues(1)}, {ID: "net1", MAC: "02:00:00:00:00:02", Tap: queues(3)}}
			f.Taps = [][]int{{8}, {9, 10, 11}}
		}},
		{"user-network", func(s *vmm.MachineSpec, f *FDs) {
			f.Taps = make([][]int, 1)
			s.NICs = user(vmm.UserNetwork{Restrict: true, Forwards: []vmm.Forward{
				{Protocol: "tcp", HostPort: 8080, GuestPort: 80},
				{Protocol: "udp", HostIP: "127.0.0.1", HostPort: 5353, GuestPort: 53},
			}})
		}},
		{"share", func(s *vmm.MachineSpec, f *FDs) {
			s.Shares = []vmm.Share{{Tag: "dougong,x"}}
			f.Shares = []int{8}
		}},
		{"template", func(s *vmm.MachineSpec, f *FDs) {
			s.KeepsMemory, s.Memory, f.Memory, s.Generation = true, &vmm.Memory{}, 8, FirstGeneration
		}},
		{"clone", func(s *vmm.MachineSpec, f *FDs) {
			s.KeepsMemory, s.Saved, f.Memory, s.Generation = true, true, 8, "4f3c2d1e-0000-4000-8000-0123456789ab"
			s.Memory = &vmm.Memory{Name: "memory,x", Private: true}
		}},
		{"clone-of-a-copy", func(s *vmm.MachineSpec, f *FDs) {
			s.KeepsMemory, s.Saved, s.Memory, f.Memory = true, true, &vmm.Memory{}, 8
		}},
		{"comma-in-name", func(s *vmm.MachineSpec, _ *FDs) { s.Name = "a,process=b" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec, fds := minimal(), minimalFDs
			tc.spec(&spec, &fds)
			args, err := Args(spec, fds)
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, tc.name+".args", optionLines(args))
		})
	}
}

// queues is a tap for a machine that is never started.
func queues(n int) *vmm.Tap {
	t := new(vmm.Tap)
	for range n {
		t.Files = append(t.Files, os.Stdin)
	}
	return t
}

// optionLines puts every option on a line of its own.
func optionLines(args []string) string {
	var b strings.Builder
	for i, a := range args {
		switch {
		case i == 0:
		case strings.HasPrefix(a, "-"):
			b.WriteByte('\n')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(a)
	}
	return b.String() + "\n"
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s\n(go test -update writes it anew)", path, diff)
	}
}

func TestArgsRefuses(t *testing.T) {
	nic := func(edit func(*vmm.NIC)) func(*vmm.MachineSpec) {
		return func(s *vmm.MachineSpec) {
			n := vmm.NIC{ID: "net0", MAC: "02:00:00:00:00:01", User: &vmm.UserNetwork{}}
			edit(&n)
			s.NICs = append(s.NICs, n)
		}
	}
	forward := func(f vmm.Forward) func(*vmm.MachineSpec) {
		return nic(func(n *vmm.NIC) { n.User.Forwards = []vmm.Forward{f} })
	}
	for name, edit := range map[string]func(*vmm.MachineSpec){
		"accelerator auto":                  func(s *vmm.MachineSpec) { s.Accelerator = vmm.Auto },
		"no CPU":                            func(s *vmm.MachineSpec) { s.CPUs = 0 },
		"many CPUs":                         func(s *vmm.MachineSpec) { s.CPUs = 1000 },
		"fewer at most":                     func(s *vmm.MachineSpec) { s.CPUs, s.MaxCPUs = 4, 2 },
		"little memory":                     func(s *vmm.MachineSpec) { s.MemoryMiB = 16 },
		"NUL in cmdline":                    func(s *vmm.MachineSpec) { s.Cmdline = "a\x00b" },
		"private memory that is given back": func(s *vmm.MachineSpec) { s.Memory = &vmm.Memory{Private: true} },
		"private memory that is served": func(s *vmm.MachineSpec) {
			s.KeepsMemory, s.Memory, s.Shares = true, &vmm.Memory{Private: true}, []vmm.Share{{Tag: "a"}}
		},
		"generation":        func(s *vmm.MachineSpec) { s.Generation = "auto,x=y" },
		"no kernel":         func(s *vmm.MachineSpec) { s.Kernel = "" },
		"relative initrd":   func(s *vmm.MachineSpec) { s.Initrd = "initrd" },
		"no serial":         func(s *vmm.MachineSpec) { s.Disks = []vmm.Disk{{}} },
		"long serial":       func(s *vmm.MachineSpec) { s.Disks = []vmm.Disk{{Serial: strings.Repeat("x", 21)}} },
		"same serial":       func(s *vmm.MachineSpec) { s.Disks = []vmm.Disk{{Serial: "a"}, {Serial: "a"}} },
		"newline in serial": func(s *vmm.MachineSpec) { s.Disks = []vmm.Disk{{Serial: "a\nb"}} },
		"no tag":            func(s *vmm.MachineSpec) { s.Shares = []vmm.Share{{}} },
		"long tag":          func(s *vmm.MachineSpec) { s.Shares = []vmm.Share{{Tag: strings.Repeat("x", 37)}} },
		"same tag":          func(s *vmm.MachineSpec) { s.Shares = []vmm.Share{{Tag: "a"}, {Tag: "a"}} },
		"NIC option":        nic(func(n *vmm.NIC) { n.ID = "a,b" }),
		"NIC no backend":    nic(func(n *vmm.NIC) { n.User = nil }),
		"NIC two backends":  nic(func(n *vmm.NIC) { n.Tap = queues(1) }),
		"tap no queue":      nic(func(n *vmm.NIC) { n.User, n.Tap = nil, queues(0) }),
		"tap many queues":   nic(func(n *vmm.NIC) { n.User, n.Tap = nil, queues(maxQueues+1) }),
		"NIC no MAC":        nic(func(n *vmm.NIC) { n.MAC = "" }),
		"NIC multicast":     nic(func(n *vmm.NIC) { n.MAC = "01:00:5e:00:00:01" }),
		"forward protocol":  forward(vmm.Forward{Protocol: "sctp", HostPort: 1, GuestPort: 1}),
		"forward port":      forward(vmm.Forward{Protocol: "tcp", HostPort: 0, GuestPort: 1}),
		"forward address":   forward(vmm.Forward{Protocol: "tcp", HostIP: "1.2.3", HostPort: 1, GuestPort: 1}),
		"forward IPv6":      forward(vmm.Forward{Protocol: "tcp", HostIP: "::1", HostPort: 1, GuestPort: 1}),
	} {
		t.Run(name, func(t *testing.T) {
			spec, fds := minimal(), minimalFDs
			edit(&spec)
			fds.Disks, fds.Shares = make([]DiskFD, len(spec.Disks)), make([]int, len(spec.Shares))
			if _, err := Args(spec, fds); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("err = %v, want an invalid argument", err)
			}
		})
	}
}

func TestArgsNeedsAFileForEachDisk(t *testing.T) {
	spec := minimal()
	spec.Disks = []vmm.Disk{{Serial: "a"}}
	if _, err := Args(spec, minimalFDs); err == nil {
		t.Error("no error")
	}
}
