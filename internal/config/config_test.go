package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	edit := func(change func(*Config)) Config {
		c := Default()
		change(&c)
		return c
	}
	tests := map[string]struct {
		toml string
		want Config
	}{
		"empty":          {"", Default()},
		"empty section":  {"[vm]\n", Default()},
		"comment":        {"# nothing\n", Default()},
		"example":        {Example(), Default()},
		"one key":        {"[vm]\ncpus = 3\n", edit(func(c *Config) { c.VM.CPUs = 3 })},
		"dotted":         {"vm.memory_mib = 1024", edit(func(c *Config) { c.VM.MemoryMiB = 1024 })},
		"duration":       {"[vm]\nboot_timeout = \"1m30s\"", edit(func(c *Config) { c.VM.BootTimeout = Duration(90 * time.Second) })},
		"level":          {"[runtime]\nlog_level = \"debug\"", edit(func(c *Config) { c.Runtime.LogLevel = slog.LevelDebug })},
		"list":           {"[network]\ndns = [\"1.1.1.1\", \"::1\"]", edit(func(c *Config) { c.Network.DNS = []string{"1.1.1.1", "::1"} })},
		"root VMM":       {"[vm]\nuid_base = 0", edit(func(c *Config) { c.VM.UIDBase = 0 })},
		"size in bytes":  {"[storage]\nwritable_size = \"268435456\"", edit(func(c *Config) { c.Storage.WritableSize = "268435456" })},
		"whole memory":   {"[storage]\nwritable_size = \"100%\"", edit(func(c *Config) { c.Storage.WritableSize = "100%" })},
		"windows lines":  {"[vm]\r\ncpus = 3\r\n", edit(func(c *Config) { c.VM.CPUs = 3 })},
		"kernel options": {"[vm]\nkernel_parameters = \"quiet a=b\"", edit(func(c *Config) { c.VM.KernelParameters = "quiet a=b" })},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("test.toml", []byte(tt.toml))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := map[string]struct {
		toml string
		want []string
	}{
		"misspelt key":         {"[vm]\n\ncpu = 3\n", []string{`f.toml:3: unknown key "vm.cpu"; did you mean "vm.cpus"?`}},
		"dash for underscore":  {"[vm]\nmemory-mib = 3\n", []string{`f.toml:2`, `did you mean "vm.memory_mib"?`}},
		"wrong section":        {"[runtime]\nmemory_mib = 3\n", []string{`f.toml:2: unknown key "runtime.memory_mib"; did you mean "vm.memory_mib"?`}},
		"no section":           {"accelerator = \"kvm\"\n", []string{`f.toml:1: unknown key "accelerator"; did you mean "vm.accelerator"?`}},
		"unknown section":      {"[vms]\ncpus = 1\n", []string{`f.toml:1: unknown key "vms"; did you mean "vm"?`}},
		"two at once":          {"[vm]\ncpu = 3\nkernels = \"\"\n", []string{"f.toml:2", `"vm.cpus"`, "f.toml:3", `"vm.kernel"`}},
		"syntax":               {"[vm]\ncpus = \n", []string{"f.toml:2"}},
		"type":                 {"[vm]\ncpus = \"two\"\n", []string{"f.toml:2", "vm.cpus"}},
		"twice":                {"[vm]\ncpus = 1\ncpus = 2\n", []string{"f.toml:3"}},
		"duration":             {"[vm]\nboot_timeout = \"soon\"\n", []string{"f.toml:2", `"soon" is not a duration such as 30s`}},
		"duration as number":   {"[vm]\nboot_timeout = 30\n", []string{`vm.boot_timeout = "30ns": want a time such as "30s"`}},
		"level":                {"[runtime]\nlog_level = \"loud\"\n", []string{"f.toml:2", "loud"}},
		"accelerator":          {"[vm]\naccelerator = \"xen\"\n", []string{`f.toml: vm.accelerator = "xen": want auto, kvm or tcg`}},
		"no CPU":               {"[vm]\ncpus = 0\n", []string{"vm.cpus = 0: want 1 to 255"}},
		"tiny memory":          {"[vm]\nmemory_mib = 127\n", []string{"vm.memory_mib = 127: want 128 to"}},
		"negative memory":      {"[vm]\nmemory_mib = -1\n", []string{"vm.memory_mib = -1"}},
		"no time":              {"[vm]\nboot_timeout = \"0s\"\n", []string{`vm.boot_timeout = "0s": want a time such as "30s"`}},
		"negative uid":         {"[vm]\nuid_base = -5\n", []string{"vm.uid_base = -5"}},
		"high uid":             {"[vm]\nuid_base = 4294967295\n", []string{"vm.uid_base"}},
		"relative root":        {"[storage]\nroot = \"data\"\n", []string{`storage.root = "data": want an absolute path`}},
		"empty root":           {"[storage]\nroot = \"\"\n", []string{`storage.root = ""`}},
		"relative binary":      {"[vm]\nqemu = \"qemu\"\n", []string{`vm.qemu = "qemu": want an absolute path`}},
		"size":                 {"[storage]\nwritable_size = \"lots\"\n", []string{`storage.writable_size = "lots"`}},
		"share above 100":      {"[storage]\nwritable_size = \"101%\"\n", []string{`storage.writable_size`}},
		"follow":               {"[share]\nfollow_mib = 1025\n", []string{`share.follow_mib = 1025: want 0 to 1024`}},
		"cache":                {"[share]\ncache = \"never\"\n", []string{`share.cache = "never": want auto, always or none`}},
		"host network":         {"[network]\nmode = \"host\"\n", []string{`network.mode = "host": want user or none`}},
		"DNS name":             {"[network]\ndns = [\"dns.example\"]\n", []string{`network.dns: "dns.example" is not an IP address`}},
		"parameters of 2 line": {"[vm]\nkernel_parameters = \"a\\nb\"\n", []string{"vm.kernel_parameters: want a single line"}},
		"all that is wrong":    {"[vm]\ncpus = 0\nmemory_mib = 0\n", []string{"vm.cpus", "vm.memory_mib"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f.toml", []byte(tt.toml))
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("error is %v, want an invalid argument", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %q, want %q in it", err, want)
				}
			}
		})
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	if _, err := Load(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a named file that is missing gives %v, want %v", err, fs.ErrNotExist)
	}
	if err := os.WriteFile(file, []byte("[vm]\ncpus = 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if c.VM.CPUs != 7 {
		t.Errorf("vm.cpus is %d, want 7", c.VM.CPUs)
	}
}

func TestLoadDefaultPathMayBeMissing(t *testing.T) {
	if _, err := os.Stat(DefaultPath); err == nil {
		t.Skipf("%s exists on this machine", DefaultPath)
	}
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), c); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestDefaultsAreValid(t *testing.T) {
	c := Default()
	if err := c.validate(); err != nil {
		t.Error(err)
	}
}

func TestNearest(t *testing.T) {
	for key, want := range map[string]string{
		"vm.acelerator":    "vm.accelerator",
		"VM.cpus":          "vm.cpus",
		"log_level":        "runtime.log_level",
		"vm.kernel_params": "vm.kernel_parameters",
		"storage.dns":      "network.dns",
	} {
		if got := nearest(key); got != want {
			t.Errorf("nearest(%q) = %q, want %q", key, got, want)
		}
	}
}

func TestLoadByTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	named, other := filepath.Join(dir, "named.toml"), filepath.Join(dir, "other.toml")
	for path, cpus := range map[string]string{named: "3", other: "4"} {
		if err := os.WriteFile(path, []byte("[vm]\ncpus = "+cpus+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(PathEnv, named)
	for path, want := range map[string]int{"": 3, other: 4} {
		if c, err := Load(path); err != nil || c.VM.CPUs != want {
			t.Errorf("Load(%q) gives %d CPUs, %v, want %d", path, c.VM.CPUs, err, want)
		}
	}
	t.Setenv(PathEnv, filepath.Join(dir, "missing"))
	if _, err := Load(""); err == nil {
		t.Error("a file that was named may be missing")
	}
}
