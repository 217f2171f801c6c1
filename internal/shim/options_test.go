package shim

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/vmm"
)

// configuration needs neither a guest image nor KVM.
func configuration() config.Config {
	c := config.Default()
	c.Template.Enabled = false
	c.VM.Kernel, c.VM.Initrd, c.VM.Accelerator = "/boot/vmlinux", "/boot/initrd", "tcg"
	return c
}

func bundle(t *testing.T, spec any) string {
	t.Helper()
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func annotated(pairs ...string) *specs.Spec {
	s := &specs.Spec{Annotations: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		s.Annotations[pairs[i]] = pairs[i+1]
	}
	return s
}

func TestDefaultsOfASandbox(t *testing.T) {
	const id = "0123456789abcdef"
	o, err := Options(configuration(), id, "/run/dougong/"+id, bundle(t, annotated()))
	if err != nil {
		t.Fatal(err)
	}
	if o.ID != id || o.Hostname != "0123456789ab" || o.Dir != "/run/dougong/"+id {
		t.Errorf("sandbox %q, host name %q, directory %q", o.ID, o.Hostname, o.Dir)
	}
	m := o.Machine
	if m.CPUs != 1 || m.MemoryMiB != 512 || m.Accelerator != vmm.TCG || m.Kernel != "/boot/vmlinux" || m.Initrd != "/boot/initrd" {
		t.Errorf("machine is %+v", m)
	}
	if o.BootTimeout != 80*time.Second || o.StopTimeout != 20*time.Second || o.WritableSize != "50%" {
		t.Errorf("boot %v, stop %v, writable %q; emulation is given four times as long", o.BootTimeout, o.StopTimeout, o.WritableSize)
	}
	if len(m.NICs) != 1 || m.NICs[0].User == nil || len(o.Interfaces) != 1 || len(o.Routes) != 1 {
		t.Fatalf("NICs %v, interfaces %v, routes %v; want one of each", m.NICs, o.Interfaces, o.Routes)
	}
	if m.NICs[0].MAC != o.Interfaces[0].Mac {
		t.Errorf("the VMM's MAC is %s and the guest's %s", m.NICs[0].MAC, o.Interfaces[0].Mac)
	}
	if _, err := sandbox.New(o); err != nil {
		t.Errorf("the sandbox refuses its defaults: %v", err)
	}
}

func TestAnnotationsShapeTheMachine(t *testing.T) {
	spec := annotated(config.AnnotationCPUs, "3", config.AnnotationMemory, "768",
		config.AnnotationForwards, `[{"protocol":"udp","hostIp":"127.0.0.1","hostPort":5353,"guestPort":53}]`)
	spec.Hostname = "web"
	o, err := Options(configuration(), "c1", "/d", bundle(t, spec))
	if err != nil {
		t.Fatal(err)
	}
	if o.Machine.CPUs != 3 || o.Machine.MemoryMiB != 768 || o.Hostname != "web" {
		t.Errorf("%d CPUs, %d MiB, host name %q", o.Machine.CPUs, o.Machine.MemoryMiB, o.Hostname)
	}
	want := []vmm.Forward{{Protocol: "udp", HostIP: "127.0.0.1", HostPort: 5353, GuestPort: 53}}
	if diff := cmp.Diff(want, o.Machine.NICs[0].User.Forwards); diff != "" {
		t.Errorf("forwards (-want +got):\n%s", diff)
	}
}

// TestClones are the configuration's matter unless an annotation decides.
func TestClones(t *testing.T) {
	for _, tt := range []struct {
		enabled     bool
		annotations []string
		want        bool
	}{
		{true, nil, true},
		{false, nil, false},
		{true, []string{config.AnnotationTemplate, "off"}, false},
		{false, []string{config.AnnotationTemplate, "on"}, true},
	} {
		cfg := configuration()
		cfg.Storage.Root, cfg.Template.Enabled = t.TempDir(), tt.enabled
		o, err := Options(cfg, "c1", "/d", bundle(t, annotated(tt.annotations...)))
		if err != nil || (o.Templates != nil) != tt.want || o.CopyTemplates {
			t.Errorf("configured %v, annotations %q: templates %v, copied %v, %v", tt.enabled, tt.annotations, o.Templates, o.CopyTemplates, err)
		}
	}
	cfg := configuration()
	cfg.Storage.Root, cfg.Template.ShareMemory = t.TempDir(), false
	if o, err := Options(cfg, "c1", "/d", bundle(t, annotated())); err != nil || !o.CopyTemplates {
		t.Errorf("memory is shared against the configuration: %v", err)
	}
}

func TestNoNetwork(t *testing.T) {
	o, err := Options(configuration(), "c1", "/d", bundle(t, annotated(config.AnnotationNetwork, "none")))
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Machine.NICs)+len(o.Interfaces)+len(o.Routes) != 0 {
		t.Errorf("NICs %v, interfaces %v, routes %v; want none", o.Machine.NICs, o.Interfaces, o.Routes)
	}
	// The annotation goes before the configuration both ways.
	cfg := configuration()
	cfg.Network.Mode = "none"
	o, err = Options(cfg, "c1", "/d", bundle(t, annotated(config.AnnotationNetwork, "user")))
	if err != nil || len(o.Machine.NICs) != 1 {
		t.Errorf("NICs %v, %v, want one", o.Machine.NICs, err)
	}
}

func TestOptionsErrors(t *testing.T) {
	noImage := configuration()
	noImage.VM.Kernel, noImage.Storage.Root = "", t.TempDir()
	tests := map[string]struct {
		cfg    config.Config
		bundle string
		class  func(error) bool
		want   string
	}{
		"no bundle":          {configuration(), "/none", os.IsNotExist, "read OCI spec"},
		"no JSON object":     {configuration(), bundle(t, "text"), errdefs.IsInvalidArgument, "read OCI spec"},
		"bad annotation":     {configuration(), bundle(t, annotated(config.AnnotationCPUs, "many")), errdefs.IsInvalidArgument, "many"},
		"unknown annotation": {configuration(), bundle(t, annotated(config.AnnotationPrefix+"cpu", "1")), errdefs.IsInvalidArgument, "unknown annotation"},
		"no guest image":     {noImage, bundle(t, annotated()), errdefs.IsNotFound, "dougong guest build"},
		"ports but no network": {
			configuration(),
			bundle(t, annotated(config.AnnotationNetwork, "none", config.AnnotationForwards, `[{"protocol":"tcp","hostPort":1,"guestPort":1}]`)),
			errdefs.IsInvalidArgument, "published ports need the VMM's own network",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Options(tt.cfg, "c1", "/d", tt.bundle)
			if err == nil || !strings.Contains(err.Error(), tt.want) || name != "no bundle" && !tt.class(err) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

// TestUsersOfVMMs holds every user id within the range that the
// documentation of vm.uid_base tells to leave free.
func TestUsersOfVMMs(t *testing.T) {
	cfg := configuration()
	seen := map[uint32]bool{}
	for range 1000 {
		id := record.NewID()
		c := qemuConfig(cfg, id)
		if base := uint32(cfg.VM.UIDBase); c.UID < base || c.UID >= base+uidCount || c.GID != c.UID {
			t.Fatalf("user %d, group %d: out of range", c.UID, c.GID)
		}
		if again := qemuConfig(cfg, id); again.UID != c.UID {
			t.Fatal("a sandbox has two users")
		}
		seen[c.UID] = true
	}
	if len(seen) < 990 {
		t.Errorf("1000 sandboxes have %d users; they are to be spread", len(seen))
	}
	cfg.VM.UIDBase = 0
	if c := qemuConfig(cfg, "c1"); c.UID != 0 || c.GID != 0 {
		t.Errorf("uid_base 0 gives user %d", c.UID)
	}
}

func TestRandomMAC(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		text := randomMAC()
		mac, err := net.ParseMAC(text)
		if err != nil || len(mac) != 6 {
			t.Fatalf("%q is no MAC address: %v", text, err)
		}
		if mac[0]&1 != 0 || mac[0]&2 == 0 {
			t.Errorf("%s is not a locally administered unicast address", text)
		}
		seen[text] = true
	}
	if len(seen) < 100 {
		t.Errorf("100 machines have %d MAC addresses", len(seen))
	}
}

// TestLeastMemory: what the configuration lets through, the sandbox takes.
func TestLeastMemory(t *testing.T) {
	if config.MinMemoryMiB != sandbox.MinMemoryMiB {
		t.Errorf("the configuration wants %d MiB at least, the sandbox %d", config.MinMemoryMiB, sandbox.MinMemoryMiB)
	}
}
