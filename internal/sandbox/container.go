package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/sizing"
	"dougong.dev/dougong/internal/storage"
)

// ContainerSpec is what a container is made of.
type ContainerSpec struct {
	ID string
	// Role is what the container is to the sandbox. Only a pod's has several.
	Role oci.Role
	// Peer, when set, is the id of the container that a process of the host
	// stands for, "" for any other.
	Peer func(pid int) string
	// PodFiles are files that the containers of the pod have unless their specs
	// have others, by their paths. They come with the container that stands for it.
	PodFiles map[string]string
	// Bundle is the host directory with config.json; its files/ directory
	// holds the small files that the spec's mounts name as "files:NAME".
	Bundle string
	// Rootfs are the mounts that make up the root file system, lowest first.
	Rootfs []storage.Mount
	// Stdio is closed by the sandbox, also when the container cannot be made.
	Stdio Stdio
	// Options are handed to the guest's Task service as they are.
	Options *anypb.Any
	// HostPID, when set, names the process of the host that hooks are told.
	HostPID func(*Container) (int, error)
	// View is where the paths of the bundle and of what it names are meant; nil is
	// here. It is closed by the sandbox.
	View *storage.View
	// Follow, when set, tells by the annotations the targets of read-only mounts of
	// directories that the guest is to have copies of, which follow the host's.
	Follow func(annotations map[string]string) ([]string, error)
	// NetPath leads to the network namespace that somebody has made for the
	// container; empty leaves that to the sandbox.
	NetPath string
}

// Container is one container in the sandbox.
type Container struct {
	ID, Bundle string

	role    oci.Role
	sandbox *Sandbox
	// tasks answers in place of the guest for the container that stands for a pod.
	tasks task.TTRPCTaskService
	// attached is what of the host the VM sees for this container alone.
	attached *releases
	plan     *storage.Plan
	init     *Process
	// hooks are those that run on the host, nil when there are none.
	hooks       *specs.Hooks
	annotations map[string]string
	hostPID     func(*Container) (int, error)
	netPath     string
	// prepared says that hooks have had the chance to make something.
	prepared bool
	outline  specs.Spec
	devices  []*agentapi.BlockDevice
	// resolver is the host's file that it has as its resolv.conf.
	resolver string
	// shm is the memory that it shares, or could, with others.
	shm *shmWish
	// podFiles are those that the container has of its pod.
	podFiles []*agentapi.File
	// demand is what it may use of the machine; the sandbox's mu guards it.
	demand sizing.Demand
	// pages are the huge pages that it may use; the sandbox's mu guards them.
	pages hugePages
	// volumes are those that the guest has of its own.
	volumes []*guestVolume
	// names are those of its entries that other containers may have, too.
	names []string
	// commonDirs are those of directories.
	commonDirs []string
	giving     sync.Once
	gone       []storage.Entry

	mu    sync.Mutex
	execs map[string]*Process
}

// CreateContainer makes a container and its init, which waits for Start. The
// first container of a sandbox boots the VM.
func (s *Sandbox) CreateContainer(ctx context.Context, spec ContainerSpec) (*Container, error) {
	defer func() { logError("close", spec.ID, spec.View.Close()) }()
	var host *specs.Spec
	err := spec.View.Do(func() (err error) {
		host, err = readSpec(spec.Bundle)
		return err
	})
	if err != nil {
		spec.Stdio.Close()
		return nil, err
	}
	if spec.Role == oci.PodSandbox {
		return s.createStanding(ctx, host, spec)
	}
	c := newContainer(s, spec, host)
	var guest *specs.Spec
	err = spec.View.Do(func() (err error) {
		guest, err = c.prepare(ctx, host, spec)
		return err
	})
	if err != nil {
		spec.Stdio.Close()
		c.leaveShare()
		return nil, s.lostOr(err)
	}
	if err := s.reserve(c); err != nil {
		spec.Stdio.Close()
		c.leaveShare()
		return nil, err
	}
	if err := c.create(ctx, guest, spec); err != nil {
		c.giveUp(ctx)
		c.leaveShare()
		s.forget(c)
		if c.role == oci.PodContainer {
			go s.giveBack(context.WithoutCancel(ctx))
		}
		return nil, err
	}
	return c, nil
}

func newContainer(s *Sandbox, spec ContainerSpec, host *specs.Spec) *Container {
	c := &Container{
		ID: spec.ID, Bundle: spec.Bundle, role: spec.Role, sandbox: s, execs: make(map[string]*Process),
		hostPID: spec.HostPID, netPath: spec.NetPath, outline: outline(host), resolver: resolverFile(spec.Bundle, host),
	}
	if host.Linux != nil {
		c.demand, c.pages = sizing.Of(host.Linux.Resources), hugePagesOf(host.Linux.Resources)
	}
	return c
}

// task is what serves Task calls about the container.
func (c *Container) task() task.TTRPCTaskService {
	if c.tasks != nil {
		return c.tasks
	}
	return c.sandbox.client.Task
}

// prepare turns the host's spec into the guest's and plans the storage.
func (c *Container) prepare(ctx context.Context, host *specs.Spec, spec ContainerSpec) (*specs.Spec, error) {
	options, err := c.guestOptions(ctx, host, spec)
	if err == nil && host.Linux != nil {
		err = checkPages(host.Linux.Resources)
	}
	if err != nil {
		return nil, err
	}
	if c.role == oci.PodContainer {
		host = c.addPodFiles(host)
	}
	plan, binds, err := guestPlan(options, c.Bundle, host)
	if err != nil {
		return nil, err
	}
	guest := plan.Spec
	if c.role == oci.PodContainer || c.sandbox.opts.Joins {
		binds = c.takeShm(guest, binds)
	}
	if c.role != oci.PodContainer {
		c.sandbox.sysctls = plan.Sysctls
	}
	c.hooks, c.annotations = plan.Hooks, host.Annotations
	rootfs := spec.Rootfs
	if len(rootfs) == 0 {
		rootfs = bundleRootfs(c.Bundle, host)
	}
	if binds, err = c.guestVolumes(host, guest, binds, spec.Follow); err != nil {
		return nil, err
	}
	request := storage.Request{ContainerID: c.ID, Rootfs: rootfs, WritableSize: c.sandbox.opts.WritableSize}
	for _, b := range binds {
		request.Binds = append(request.Binds, c.nameBind(b.bind))
	}
	if request.Devices, err = findDevices(plan.Devices); err != nil {
		return nil, err
	}
	if c.plan, err = storage.New(request); err != nil {
		return nil, err
	}
	c.devices = guestDevices(plan.Devices, c.plan.DeviceSerials)
	for i, b := range binds {
		guest.Mounts[b.index].Source = c.plan.BindSources[i]
	}
	return guest, nil
}

// guestOptions are what the translation must know about the sandbox.
func (c *Container) guestOptions(ctx context.Context, host *specs.Spec, spec ContainerSpec) (oci.GuestOptions, error) {
	options := oci.GuestOptions{ID: c.ID}
	if c.role != oci.PodContainer {
		return options, nil
	}
	s := c.sandbox
	err := s.life.expect(Running, "add a container to")
	if err == nil && s.pod == nil && !s.opts.Joins {
		err = fmt.Errorf("add container %s to sandbox %s: it is not that of a pod: %w", c.ID, s.opts.ID, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return options, err
	}
	options.PodSysctls, options.OwnNetwork = s.sysctls, s.pod == nil && newNetwork(host)
	if options.PodSysctls == nil {
		options.PodSysctls = map[string]string{}
	}
	options.Namespaces, err = c.namespaces(ctx, host, spec.Peer)
	return options, err
}

// reserve takes the container's id.
func (s *Sandbox) reserve(c *Container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.containers[c.ID]; taken {
		return fmt.Errorf("container %s in sandbox %s: %w", c.ID, s.opts.ID, errdefs.ErrAlreadyExists)
	}
	s.containers[c.ID] = c
	return nil
}

func (s *Sandbox) forget(c *Container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, c.ID)
}

func (c *Container) create(ctx context.Context, guest *specs.Spec, spec ContainerSpec) error {
	s := c.sandbox
	if err := c.enter(ctx, spec.View); err != nil {
		spec.Stdio.Close()
		return err
	}
	err := s.makeRoom(ctx)
	if err == nil {
		err = c.makeVolumes(ctx)
	}
	if err != nil {
		spec.Stdio.Close()
		c.attached.unwind()
		return s.lostOr(err)
	}
	if err := c.make(ctx, guest, spec); err != nil {
		c.attached.unwind()
		return s.lostOr(err)
	}
	return nil
}

// enter makes what the container consists of visible to the VM, which is
// started with the first one.
func (c *Container) enter(ctx context.Context, view *storage.View) (err error) {
	s := c.sandbox
	if c.role == oci.PodContainer {
		c.attached, err = s.attach(ctx, c, view)
		return err
	}
	if s.life.get() != Created {
		return fmt.Errorf("sandbox %s has a container already; only that of a pod has more than one: %w", s.opts.ID, errdefs.ErrNotImplemented)
	}
	c.attached = &releases{}
	return s.Start(ctx, c)
}

// make makes the container in the guest.
func (c *Container) make(ctx context.Context, guest *specs.Spec, spec ContainerSpec) error {
	s := c.sandbox
	if err := c.mountShm(ctx, guest); err != nil {
		spec.Stdio.Close()
		return err
	}
	bundle, err := c.createBundle(ctx, guest)
	if err != nil {
		spec.Stdio.Close()
		c.dropShm(ctx)
		return err
	}
	if err := c.creationHooks(ctx); err != nil {
		spec.Stdio.Close()
		c.deleteBundle(ctx)
		return err
	}
	terminal := guest.Process != nil && guest.Process.Terminal
	c.init = newProcess(c, "", terminal, spec.Stdio)
	if err := c.init.create(ctx, func(ctx context.Context, io streamIDs) (uint32, error) {
		defer s.phase(ctx, "create")()
		resp, err := c.task().Create(ctx, &task.CreateTaskRequest{
			ID: c.ID, Bundle: bundle, Terminal: terminal, Options: spec.Options,
			Stdin: io.stdin, Stdout: io.stdout, Stderr: io.stderr,
		})
		return resp.GetPid(), err
	}); err != nil {
		c.deleteBundle(ctx)
		return err
	}
	s.roomMade()
	return nil
}

// createBundle assembles the container in the guest and returns its bundle there.
func (c *Container) createBundle(ctx context.Context, guest *specs.Spec) (string, error) {
	files, err := readFiles(filepath.Join(c.Bundle, "files"))
	if err != nil {
		return "", err
	}
	files = append(files, c.podFiles...)
	request, err := bundleRequest(c.ID, c.plan.Rootfs, guest, files)
	if err != nil {
		return "", err
	}
	request.Devices = c.devices
	if c.sandbox.tree != nil {
		if request.MountPoints, err = c.sandbox.tree.MountPoints(c.plan.Entries); err != nil {
			return "", err
		}
		request.MountPoints = append(c.commonEntries(), request.MountPoints...)
	}
	defer c.sandbox.phase(ctx, "rootfs")()
	resp, err := c.sandbox.client.VM.CreateBundle(ctx, request)
	if err != nil {
		return "", fmt.Errorf("assemble container %s in the guest: %w", c.ID, err)
	}
	return resp.GetBundle(), nil
}

func (c *Container) deleteBundle(ctx context.Context) {
	request := &agentapi.DeleteBundleRequest{Id: c.ID}
	for _, e := range c.leaveShare() {
		request.Shared = append(request.Shared, e.SharedPath())
	}
	_, err := c.sandbox.client.VM.DeleteBundle(ctx, request)
	logError("take container apart in the guest", c.ID, err)
	c.dropShm(ctx)
}

// readFiles reads the bundle's small files; a bundle need not have any.
func readFiles(dir string) ([]*agentapi.File, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read files of the bundle: %w", err)
	}
	var files []*agentapi.File
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read files of the bundle: %w", err)
		}
		files = append(files, &agentapi.File{Name: e.Name(), Content: content, Mode: 0o644})
	}
	return files, nil
}

// Init is the container's first process.
func (c *Container) Init() *Process { return c.init }

// Process returns the init for an empty id and an exec otherwise.
func (c *Container) Process(execID string) (*Process, error) {
	if execID == "" {
		return c.init, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.execs[execID]
	if !ok {
		return nil, fmt.Errorf("process %s in container %s: %w", execID, c.ID, errdefs.ErrNotFound)
	}
	return p, nil
}

// Container returns the container of this id.
func (s *Sandbox) Container(id string) (*Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.containers[id]
	if !ok || c.init == nil {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

// lostOr replaces an error that came of the sandbox's end by what is known of
// that end. A broken connection is noticed before what broke it.
func (s *Sandbox) lostOr(err error) error {
	var patience time.Duration
	if errdefs.IsUnavailable(err) {
		patience = 2 * s.opts.StopTimeout
	}
	select {
	case <-s.lost:
	case <-time.After(patience):
		return err
	}
	return orElse(s.Err(), err)
}
