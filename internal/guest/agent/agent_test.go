package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	api "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/guest/bundle"
	"dougong.dev/dougong/internal/guest/container"
	"dougong.dev/dougong/internal/guest/mount"
	"dougong.dev/dougong/internal/guest/stamp"
	"dougong.dev/dougong/internal/guest/volume"
	"dougong.dev/dougong/internal/transport"
)

// inside marks the test binary that runs in namespaces like a guest's.
const inside = "DOUGONG_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("skipped: needs root for containers")
		return
	}
	if os.Getenv(inside) == "" {
		os.Exit(isolated())
	}
	err := errors.Join(unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH), unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""))
	if err != nil {
		fmt.Println("set up cgroups:", err)
		os.Exit(1)
	}
	status := m.Run()
	for _, group := range []string{"c1", "c2", ""} {
		_ = os.Remove(filepath.Join("/sys/fs/cgroup/dougong", group))
	}
	os.Exit(status)
}

// isolated runs the test binary in namespaces of its own, so that mounts,
// names and networks of the machine stay what they are.
func isolated() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS, Pdeathsig: unix.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// machine is an agent with the host's end of its line.
type machine struct {
	*testing.T
	dir   string
	host  transport.Session
	open  func(ctx context.Context, id string) (net.Conn, error)
	vm    api.AgentService
	tasks task.TTRPCTaskService
	ended chan error
}

func boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{T: t, dir: t.TempDir(), ended: make(chan error, 1)}
	a, b := net.Pipe()
	m.host = transport.NewHost(a)
	m.open = func(ctx context.Context, id string) (net.Conn, error) { return transport.OpenStream(ctx, m.host, id) }
	ready, err := m.host.Listen(transport.PortReady)
	m.check(err)
	guest := transport.NewGuest(b)
	ctx, cancel := context.WithCancel(context.Background())
	mounter := mount.New(nil)
	go func() {
		m.ended <- serve(ctx, guest, parts{
			version: "test",
			runtime: container.Config{
				Binary: "crun", Args: []string{"--cgroup-manager=cgroupfs"}, Root: filepath.Join(m.dir, "crun"),
			},
			offer:   taken,
			boot:    stamp.List{{Step: "agent", Microseconds: 1}},
			mounter: mounter, bundles: bundle.NewStore(filepath.Join(m.dir, "bundles"), mounter),
			volumes: volume.NewStore(filepath.Join(m.dir, "volumes")),
		})
		_ = guest.Close()
	}()
	t.Cleanup(func() { cancel(); _ = m.host.Close() })
	conn, err := ready.Accept()
	m.check(err)
	hello, err := transport.ReadHello(conn)
	m.check(err)
	if hello.AgentVersion != "test" || hello.Kernel == "" || len(hello.Boot) != 2 || hello.Boot[0].Step != "agent" || hello.Boot[1].Microseconds == 0 {
		t.Errorf("hello: %+v", hello)
	}
	control, err := m.host.Dial(m.context(), transport.PortControl)
	m.check(err)
	client := ttrpc.NewClient(control)
	m.vm, m.tasks = api.NewAgentClient(client), task.NewTTRPCTaskClient(client)
	return m
}

func (m *machine) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	m.Cleanup(cancel)
	return ctx
}

// image is a root file system of busybox.
func (m *machine) image() string {
	m.Helper()
	dir := filepath.Join(m.dir, "image")
	for _, d := range []string{"bin", "proc", "dev"} {
		m.check(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	data, err := os.ReadFile("/bin/busybox")
	m.check(err)
	m.check(os.WriteFile(filepath.Join(dir, "bin/sh"), data, 0o755))
	return dir
}

// start makes and starts a container whose output goes to the result.
func (m *machine) start(id, script string) net.Conn {
	m.Helper()
	bundle := filepath.Join(m.dir, "bundles", id)
	spec, err := json.Marshal(specs.Spec{
		Version: "1.0.2", Root: &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: []string{"sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/etc/motd", Type: "bind", Source: filepath.Join(bundle, "files/motd"), Options: []string{"bind"}},
		},
		Linux: &specs.Linux{CgroupsPath: "/dougong/" + id, Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}}},
	})
	m.check(err)
	made, err := m.vm.CreateBundle(m.context(), &api.CreateBundleRequest{
		Id: id, Spec: spec, Files: []*api.File{{Name: "motd", Content: []byte("hello\n")}},
		Rootfs: &api.Rootfs{
			Lowers:   []*api.Mount{{Type: "bind", Source: m.image(), Options: []string{"ro"}}},
			Writable: &api.Writable{Mount: &api.Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m"}}},
		},
	})
	m.check(err)
	out, err := m.open(m.context(), id)
	m.check(err)
	_, err = m.tasks.Create(m.context(), &task.CreateTaskRequest{ID: id, Bundle: made.Bundle, Stdout: id})
	m.check(err)
	_, err = m.tasks.Start(m.context(), &task.StartRequest{ID: id})
	m.check(err)
	return out
}

func TestWholeLife(t *testing.T) {
	m := boot(t)
	_, err := m.vm.Configure(m.context(), &api.ConfigureRequest{
		Entropy: make([]byte, 32), TimeUnixNano: time.Now().UnixNano(), Hostname: "guest",
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1"},
	})
	m.check(err)
	share := filepath.Join(m.dir, "share")
	_, err = m.vm.Mount(m.context(), &api.MountRequest{Mounts: []*api.Mount{{Type: "tmpfs", Source: "tmpfs", Target: share}}})
	m.check(err)
	figures, err := m.vm.Info(m.context(), &api.InfoRequest{})
	m.check(err)
	if figures.MemoryTotal == 0 || figures.AgentRss == 0 || figures.CpusOnline == 0 {
		t.Errorf("figures: %v", figures)
	}
	out := m.start("c1", "read x </etc/motd; echo $x >/new; echo $x; exit 3")
	got, err := io.ReadAll(transport.NewStreamReader(out))
	if string(got) != "hello\n" || err != nil {
		t.Errorf("output %q, %v", got, err)
	}
	_ = out.Close()
	end, err := m.tasks.Wait(m.context(), &task.WaitRequest{ID: "c1"})
	m.check(err)
	if end.ExitStatus != 3 {
		t.Errorf("status %d", end.ExitStatus)
	}
	_, err = m.tasks.Delete(m.context(), &task.DeleteRequest{ID: "c1"})
	m.check(err)
	_, err = m.vm.DeleteBundle(m.context(), &api.DeleteBundleRequest{Id: "c1"})
	m.check(err)
	m.start("c2", "while :; do sleep 100; done")
	m.shutdown()
}

// shutdown wants the agent to end in peace, and nothing to stay mounted.
func (m *machine) shutdown() {
	m.Helper()
	_, err := m.vm.Shutdown(m.context(), &api.ShutdownRequest{})
	m.check(err)
	if err := <-m.ended; err != nil {
		m.Errorf("agent ends with %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	m.check(err)
	if strings.Contains(string(mounts), m.dir) {
		m.Errorf("still mounted:\n%s", mounts)
	}
}

func TestErrorsHaveClasses(t *testing.T) {
	m := boot(t)
	_, err := m.vm.Mount(m.context(), &api.MountRequest{Mounts: []*api.Mount{{Type: "tmpfs", Target: "x"}}})
	if err := errgrpc.ToNative(err); !errdefs.IsInvalidArgument(err) {
		t.Errorf("mount: %v", err)
	}
	_, err = m.vm.Unmount(m.context(), &api.UnmountRequest{Targets: []string{filepath.Join(m.dir, "none")}})
	if err := errgrpc.ToNative(err); !errdefs.IsNotFound(err) {
		t.Errorf("unmount: %v", err)
	}
	_, err = m.vm.Configure(m.context(), &api.ConfigureRequest{Entropy: []byte("short")})
	if err := errgrpc.ToNative(err); !errdefs.IsInvalidArgument(err) {
		t.Errorf("configure: %v", err)
	}
	m.shutdown()
}

func TestHostGone(t *testing.T) {
	m := boot(t)
	_ = m.host.Close()
	if err := <-m.ended; !errors.Is(err, errHostGone) {
		t.Errorf("agent ends with %v", err)
	}
}
