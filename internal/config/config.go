// Package config is Dougong's configuration: one TOML file, strictly read,
// with a default for every key, and the annotations by which a caller changes
// parts of it for one sandbox.
//
// It is pure data. It must not look at the host or act on what it reads.
package config

//go:generate go test . -run TestPage -update

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// DefaultPath is read when no other file is named; it need not exist.
const DefaultPath = "/etc/dougong/config.toml"

// PathEnv names the file that is read instead of DefaultPath, also by sandbox
// processes of a containerd that has it in its environment.
const PathEnv = "DOUGONG_CONFIG"

// Config is the whole configuration.
type Config struct {
	VM       VM       `toml:"vm"`
	Storage  Storage  `toml:"storage"`
	Template Template `toml:"template"`
	Pool     Pool     `toml:"pool"`
	Share    Share    `toml:"share"`
	Network  Network  `toml:"network"`
	Cgroup   Cgroup   `toml:"cgroup"`
	Runtime  Runtime  `toml:"runtime"`
}

// VM configures virtual machines.
type VM struct {
	QEMU             string   `toml:"qemu" doc:"Path of the QEMU binary. Empty: qemu-system-x86_64 in PATH."`
	Accelerator      string   `toml:"accelerator" doc:"What runs guest code: auto, kvm or tcg. auto takes KVM only where it can run a stock kernel; 'dougong check' explains the choice."`
	CPUs             int      `toml:"cpus" doc:"Virtual CPUs of a sandbox that asks for no number."`
	MemoryMiB        int      `toml:"memory_mib" doc:"Memory in MiB of a sandbox that asks for no size."`
	MaxCPUs          int      `toml:"max_cpus" doc:"Most virtual CPUs that a sandbox grows to when its containers may use more. 0: as many as the host has; of these, up to 16 can be added while it runs. 1 keeps a sandbox at the number it started with."`
	MaxMemoryMiB     int      `toml:"max_memory_mib" doc:"Most memory in MiB that a sandbox grows to when its containers may use more. 0: as much as the host has, in whole GiB. A number below memory_mib keeps a sandbox at the size it started with."`
	Kernel           string   `toml:"kernel" doc:"Path of the guest kernel. Empty: that of the guest image made by 'dougong guest build'."`
	Initrd           string   `toml:"initrd" doc:"Path of the guest's initramfs. Empty: that of the guest image made by 'dougong guest build'."`
	KernelParameters string   `toml:"kernel_parameters" doc:"Parameters added to the guest kernel's command line."`
	BootTimeout      Duration `toml:"boot_timeout" doc:"Longest time from the start of the VMM until the guest answers, under KVM. Without KVM four times as long."`
	StopTimeout      Duration `toml:"stop_timeout" doc:"Longest time a guest may take to end its processes and write back what outlives it before its VMM is killed, under KVM. Without KVM four times as long."`
	HealthTimeout    Duration `toml:"health_timeout" doc:"Longest time a running guest may leave the host's question whether it is well unanswered before its VM is ended, under KVM. Without KVM four times as long."`
	UIDBase          int      `toml:"uid_base" doc:"First of the 1048576 user ids under which VMMs run, one for each sandbox. 0 runs them as root, which is not advised."`
}

// Storage configures images and writable layers.
type Storage struct {
	Root            string `toml:"root" doc:"Directory of images and guest images."`
	WritableSize    string `toml:"writable_size" doc:"Size of a container's writable layer, which is in the guest's memory: 256m, 1g, or a share of the memory such as 50%."`
	MaxUnpackedGiB  int    `toml:"max_unpacked_gib" doc:"Largest size in GiB to which the layers of an image may unpack."`
	MaxFilesGiB     int    `toml:"max_files_gib" doc:"Largest sum in GiB of the sizes of an image's files, holes of sparse files included."`
	MaxImageEntries int    `toml:"max_image_entries" doc:"Largest number of files and directories that an image may have."`
	MaxMetadataMiB  int    `toml:"max_metadata_mib" doc:"Most memory in MiB for the names and attributes of an image's files while it is unpacked."`
	MaxUnpackRatio  int    `toml:"max_unpack_ratio" doc:"How many times its size a layer may become when it is decompressed, beyond its first GiB."`
}

// Template configures saved machines, of which others are clones.
type Template struct {
	Enabled     bool   `toml:"enabled" doc:"Start virtual machines as clones of a saved one, which is made on first use for each kind of machine and kept below storage.root. Clones share what was random in the saved machine until each gets entropy of its own, before its first container; SECURITY.md says when not to share."`
	ShareMemory bool   `toml:"share_memory" doc:"Let clones share the pages of the saved memory that they do not write to. Off, each gets a copy of all: slower, larger, and with no page in common. A clone with shared directories gets one anyway."`
	KeepVMM     bool   `toml:"keep_vmm" doc:"Keep with each saved machine its emulator too, with what that has translated, and start clones as copies of it: in a third of the time, and with less memory each. Such clones have the addresses of their emulator's memory in common; SECURITY.md says what that means. Without effect under KVM, which translates nothing."`
	MemoryDir   string `toml:"memory_dir" doc:"Directory in a file system of memory (tmpfs) for small templates, which then need no disk and stay fast when the host has other use for its cache. Where it cannot be used, all are kept below storage.root."`
	MemoryMiB   int    `toml:"memory_mib" doc:"Most MiB that templates may take there, all together; one that does not fit is kept below storage.root. 0 keeps all there."`
}

// Pool configures clones that wait to be used.
type Pool struct {
	Size      int      `toml:"size" doc:"How many clones wait, restored, rehearsed and stopped, for a container that takes one: it then starts in less than half the time. They are of the kinds that the latest starts asked for. 0 keeps none. It needs template.enabled."`
	MemoryMiB int      `toml:"memory_mib" doc:"Most MiB of the host's memory that the waiting clones may take together, counting shared pages in part; fewer wait where more would not fit. One of 512 MiB takes about 90."`
	Idle      Duration `toml:"idle" doc:"How long after the latest start the waiting clones, and the process that keeps them, stay. 0s is for ever."`
}

// Share configures directories shared with guests.
type Share struct {
	Virtiofsd string `toml:"virtiofsd" doc:"Path of virtiofsd. Empty: the places where distributions put it."`
	Cache     string `toml:"cache" doc:"How long a guest trusts what it has read from a shared directory: auto (revalidate after a second), always, or none."`
	FollowMiB int    `toml:"follow_mib" doc:"Size in MiB up to which a pod's ConfigMaps, Secrets and what is projected from them are copied into the guest, where changes are seen at once and with inotify events; larger ones are shared. 0 shares all."`
}

// Network configures the network of containers started by dougong run.
type Network struct {
	Mode string   `toml:"mode" doc:"user (outbound connections and published ports, no set-up on the host) or none."`
	DNS  []string `toml:"dns" doc:"Name servers of containers. Empty: the host's."`
}

// Cgroup configures the cgroups of sandboxes on the host.
type Cgroup struct {
	Parent            string `toml:"parent" doc:"Cgroup of the host below which a sandbox gets its own, unless the container's spec names one. Empty: such a sandbox stays in the cgroup of whoever starts it."`
	OverheadMillicpus int    `toml:"overhead_millicpus" doc:"Thousandths of a CPU that a sandbox may take of the host beyond what its containers are limited to, for the virtual machine monitor and file sharing."`
	OverheadMemoryMiB int    `toml:"overhead_memory_mib" doc:"Memory in MiB that a sandbox may take of the host beyond the size of its virtual machine."`
}

// Runtime configures the sandbox process and its state.
type Runtime struct {
	State    string     `toml:"state" doc:"Directory of running sandboxes; it should be emptied at boot."`
	Shim     string     `toml:"shim" doc:"Path of containerd-shim-dougong-v2. Empty: beside the dougong binary, then PATH."`
	LogLevel slog.Level `toml:"log_level" doc:"What the sandbox process logs: debug, info, warn or error."`

	KataAnnotations bool `toml:"kata_annotations" doc:"Understand some annotations by the names that Kata Containers has for them; docs/migrate-from-kata.md lists them."`
}

// Default returns the configuration without any file.
func Default() Config {
	return Config{
		VM: VM{
			Accelerator: "auto", CPUs: 1, MemoryMiB: 512, UIDBase: 1 << 30,
			BootTimeout: Duration(20 * time.Second), StopTimeout: Duration(5 * time.Second),
			HealthTimeout: Duration(30 * time.Second),
		},
		Storage:  Storage{Root: "/var/lib/dougong", WritableSize: "50%", MaxUnpackedGiB: 32, MaxFilesGiB: 64, MaxImageEntries: 2_000_000, MaxMetadataMiB: 512, MaxUnpackRatio: 200},
		Template: Template{Enabled: true, ShareMemory: true, KeepVMM: true, MemoryDir: "/dev/shm/dougong-templates", MemoryMiB: 512},
		Pool:     Pool{Size: 0, MemoryMiB: 1024, Idle: Duration(30 * time.Minute)},
		Share:    Share{Cache: "auto", FollowMiB: 8},
		Network:  Network{Mode: "user"},
		Cgroup:   Cgroup{Parent: "/dougong", OverheadMillicpus: 250, OverheadMemoryMiB: 256},
		Runtime:  Runtime{State: "/run/dougong", LogLevel: slog.LevelInfo},
	}
}

// Load reads the configuration at path over the defaults. An empty path means
// the file that PathEnv names, or DefaultPath, which may be missing; a file that
// was named may not.
func Load(path string) (Config, error) {
	if path == "" {
		path = os.Getenv(PathEnv)
	}
	name := path
	if name == "" {
		name = DefaultPath
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && path == "" {
		return Default(), nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(name, data)
}

// Parse reads a configuration; name is for messages.
func Parse(name string, data []byte) (Config, error) {
	c := Default()
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("configuration %w", explain(name, err))
	}
	if err := c.validate(); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", name, err)
	}
	return c, nil
}
