package container

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"dougong.dev/dougong/internal/transport"
)

// inside marks the test binary that runs where crun finds a unified cgroup
// hierarchy, as it does in a guest.
const inside = "DOUGONG_TEST_INSIDE"

var cgroupParent = fmt.Sprintf("/dougong-test-%d", os.Getpid())

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("skipped: needs root for containers")
		return
	}
	if os.Getenv(inside) == "" {
		os.Exit(isolated())
	}
	if err := unifiedCgroups(); err != nil {
		fmt.Println("set up cgroups:", err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.Remove(filepath.Join(cgroupRoot, cgroupParent))
	os.Exit(status)
}

// isolated runs the test binary in a mount namespace of its own.
func isolated() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func unifiedCgroups() error {
	if err := unix.Unmount(cgroupRoot, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", cgroupRoot, err)
	}
	if err := unix.Mount("cgroup2", cgroupRoot, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", cgroupRoot, err)
	}
	return nil
}

// guest is an agent's Task service, reached as the host reaches it.
type guest struct {
	*testing.T
	dir     string
	host    transport.Session
	client  api.TTRPCTaskService
	service *Service
	streams int
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	g := &guest{T: t, dir: t.TempDir()}
	a, b := net.Pipe()
	g.host = transport.NewHost(a)
	session := transport.NewGuest(b)
	streams := transport.NewStreams(g.must(session.Listen(transport.PortStream)))
	ctx, cancel := context.WithCancel(context.Background())
	config := Config{Binary: "crun", Args: []string{"--cgroup-manager=cgroupfs"}, Root: filepath.Join(g.dir, "state")}
	var err error
	if g.service, err = NewService(ctx, config, streams); err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(classes))
	if err != nil {
		t.Fatal(err)
	}
	api.RegisterTTRPCTaskService(server, g.service)
	control := g.must(session.Listen(transport.PortControl))
	go func() { _ = server.Serve(ctx, control) }()
	conn, err := g.host.Dial(ctx, transport.PortControl)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	g.client = api.NewTTRPCTaskClient(client)
	t.Cleanup(func() {
		g.service.KillAll(g.context())
		for _, c := range g.service.all() {
			if err := c.destroy(g.context()); err != nil {
				t.Error(err)
			}
		}
		cancel()
		<-g.service.reaper.stopped
		_, _, _ = client.Close(), server.Close(), streams.Close()
		_, _ = session.Close(), g.host.Close()
	})
	return g
}

func classes(ctx context.Context, u ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, m ttrpc.Method) (any, error) {
	r, err := m(ctx, u)
	return r, errgrpc.ToGRPC(err)
}

func (g *guest) must(l net.Listener, err error) net.Listener {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
	return l
}

func (g *guest) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	g.Cleanup(cancel)
	return ctx
}

// bundle makes a bundle with a root file system of busybox.
func (g *guest) bundle(id string, edit func(*specs.Spec), args ...string) string {
	g.Helper()
	bundle := filepath.Join(g.dir, id)
	root := filepath.Join(bundle, "rootfs")
	for _, d := range []string{"bin", "etc", "proc", "dev", "tmp"} {
		g.check(os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	g.check(os.Link(g.busybox(), filepath.Join(root, "bin/busybox")))
	for _, name := range []string{"sh", "cat", "echo", "sleep", "true", "id", "stty", "wc", "head", "ls", "yes"} {
		g.check(os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	g.check(os.WriteFile(filepath.Join(root, "bin/plain"), []byte("text"), 0o644))
	g.check(os.WriteFile(filepath.Join(root, "bin/lost"), []byte("#!/gone\n"), 0o755))
	g.check(os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n"), 0o644))
	spec := testSpec(id, args)
	if edit != nil {
		edit(spec)
	}
	data, err := json.Marshal(spec)
	g.check(err)
	g.check(os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o644))
	return bundle
}

func (g *guest) check(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// busybox is a copy on the file system of the test, to link to.
func (g *guest) busybox() string {
	path := filepath.Join(g.dir, "busybox")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	data, err := os.ReadFile("/bin/busybox")
	g.check(err)
	g.check(os.WriteFile(path, data, 0o755))
	return path
}

func testSpec(id string, args []string) *specs.Spec {
	return &specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: filepath.Join(cgroupParent, id),
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}},
		},
	}
}

// proc is a process with the host's ends of its streams.
type proc struct {
	*guest
	id, execID      string
	stdin           net.Conn
	in              io.WriteCloser
	out, err        bytes.Buffer
	outEnd, errEnd  error
	copying         sync.WaitGroup
	stdinID, outID  string
	errID           string
	terminal, input bool
}

func (g *guest) newTask(id, execID string, terminal, input bool) *proc {
	g.Helper()
	t := &proc{guest: g, id: id, execID: execID, terminal: terminal, input: input}
	g.streams++
	prefix := fmt.Sprintf("%s/%s/%d/", id, execID, g.streams)
	if input {
		t.stdinID = prefix + "0"
		t.stdin = g.open(t.stdinID)
		t.in = transport.NewStreamWriter(t.stdin)
	}
	t.outID = prefix + "1"
	t.collect(t.outID, &t.out, &t.outEnd)
	if !terminal {
		t.errID = prefix + "2"
		t.collect(t.errID, &t.err, &t.errEnd)
	}
	return t
}

func (g *guest) open(id string) net.Conn {
	g.Helper()
	conn, err := transport.OpenStream(g.context(), g.host, id)
	g.check(err)
	return conn
}

func (t *proc) collect(id string, to *bytes.Buffer, end *error) {
	conn := t.open(id)
	t.copying.Go(func() {
		_, *end = io.Copy(to, transport.NewStreamReader(conn))
		_ = conn.Close()
	})
}

func (t *proc) create(bundle string) error {
	_, err := t.client.Create(t.context(), &api.CreateTaskRequest{
		ID: t.id, Bundle: bundle, Terminal: t.terminal, Stdin: t.stdinID, Stdout: t.outID, Stderr: t.errID,
	})
	return errgrpc.ToNative(err)
}

func (t *proc) start() error {
	_, err := t.client.Start(t.context(), &api.StartRequest{ID: t.id, ExecID: t.execID})
	return errgrpc.ToNative(err)
}

func (t *proc) exec(p specs.Process) error {
	spec, err := json.Marshal(p)
	t.check(err)
	_, err = t.client.Exec(t.context(), &api.ExecProcessRequest{
		ID: t.id, ExecID: t.execID, Terminal: t.terminal, Stdin: t.stdinID, Stdout: t.outID, Stderr: t.errID,
		Spec: &anypb.Any{Value: spec},
	})
	return errgrpc.ToNative(err)
}

// wait returns the exit status; output is complete then.
func (t *proc) wait() uint32 {
	t.Helper()
	r, err := t.client.Wait(t.context(), &api.WaitRequest{ID: t.id, ExecID: t.execID})
	t.check(err)
	t.copying.Wait()
	if t.outEnd != nil || t.errEnd != nil {
		t.Errorf("streams ended with %v and %v", t.outEnd, t.errEnd)
	}
	return r.ExitStatus
}

func (t *proc) delete() error {
	_, err := t.client.Delete(t.context(), &api.DeleteRequest{ID: t.id, ExecID: t.execID})
	return errgrpc.ToNative(err)
}

func (t *proc) kill(sig unix.Signal, all bool) {
	t.Helper()
	_, err := t.client.Kill(t.context(), &api.KillRequest{ID: t.id, ExecID: t.execID, Signal: uint32(sig), All: all})
	t.check(err)
}

// run starts a container.
func (g *guest) run(id string, input bool, args ...string) *proc {
	g.Helper()
	t := g.newTask(id, "", false, input)
	g.check(t.create(g.bundle(id, nil, args...)))
	g.check(t.start())
	return t
}

func (t *proc) startExec(execID string, terminal, input bool, args ...string) *proc {
	t.Helper()
	e := t.newTask(t.id, execID, terminal, input)
	t.check(e.exec(specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}}))
	t.check(e.start())
	return e
}

// waitStatus is wait for a process whose streams were never claimed or are
// of no interest.
func (t *proc) waitStatus() uint32 {
	t.Helper()
	r, err := t.client.Wait(t.context(), &api.WaitRequest{ID: t.id, ExecID: t.execID})
	t.check(err)
	return r.ExitStatus
}
