package sandbox

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/agent"
	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/reclaim"
	"dougong.dev/dougong/internal/sizing"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/timeline"
	"dougong.dev/dougong/internal/virtiofsd"
	"dougong.dev/dougong/internal/vmm"
)

// Sandbox is one virtual machine with its containers.
type Sandbox struct {
	opts     Options
	life     lifecycle
	releases releases
	// done is closed when the VM is gone and everything was given back.
	done chan struct{}
	// lost is closed when the VM is no longer of use, before the clean-up.
	lost chan struct{}

	machine *qemu.Machine
	daemon  *virtiofsd.Daemon
	client  *agent.Client
	tree    *storage.Tree
	group   *cgroup.Group
	network *networking
	// sysctls are the first container's, for the VM as a whole.
	sysctls map[string]string
	// pod is set when the sandbox is that of a pod.
	pod *oci.PodPlan
	// podFiles are files that a pod's containers have, by their paths.
	podFiles map[string]string
	// bare are the disks that the first container has as such, while the machine
	// is started.
	bare []vmm.Disk
	// start has the phases of the start, until the first container runs.
	start timeline.Recorder

	// shm guards memory, and the making of the file systems that it tells of.
	shm    sync.Mutex
	memory sharedMemory

	// resolving guards hasResolver, which says that the guest reaches the name
	// server of the network namespace.
	resolving   sync.Mutex
	hasResolver bool

	volumes volumes

	// entering is held while a cgroup is made. The kernel takes nothing of it
	// away with this process, so the end of the sandbox waits for that.
	entering sync.Mutex

	// resizing guards how large the machine is, and what the host lets it take.
	resizing sync.Mutex
	size     sizing.Size
	// limited says that the first container is there.
	limited bool
	// reserved are the huge pages that the guest keeps.
	reserved hugePages

	mu         sync.Mutex
	containers map[string]*Container
	// lasting says that the guest can write to something that outlives it.
	lasting  bool
	stopping bool
	cause    error
}

// New returns a sandbox that holds nothing yet.
func New(opts Options) (*Sandbox, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Sandbox{
		opts: opts,
		size: opts.Sizing.Start,
		life: lifecycle{what: "sandbox " + opts.ID},
		done: make(chan struct{}),
		lost: make(chan struct{}), containers: make(map[string]*Container),
	}, nil
}

// Start boots the VM with the disks and shares of its first container attached,
// after that one's hooks have had the chance to fill the network namespace. When
// it fails, everything it made is gone again.
func (s *Sandbox) Start(ctx context.Context, c *Container) error {
	if err := s.life.expect(Created, "start"); err != nil {
		return err
	}
	begin := time.Now()
	if err := s.boot(ctx, c); err != nil {
		err = s.blameDaemon(err)
		s.fail(err)
		return fmt.Errorf("start sandbox: %w", err)
	}
	if !s.life.to(Running) {
		s.fail(errStopped)
		return fmt.Errorf("start sandbox: %w", errStopped)
	}
	slog.InfoContext(ctx, "sandbox running", "sandbox", s.opts.ID, "took", time.Since(begin), "vmm_pid", s.machine.PID(), "kernel", s.client.Hello.Kernel)
	go s.watch()
	go s.guard()
	s.settle()
	s.forwardLoopback()
	if err := s.watchNetwork(); err != nil {
		s.fail(err)
		return fmt.Errorf("start sandbox: %w", err)
	}
	return nil
}

// settleTime is how long after its start a sandbox counts as settled.
const settleTime = 4 * time.Second

// settle gives host memory back that only the start needed, once it is over.
func (s *Sandbox) settle() {
	timer := time.AfterFunc(settleTime, func() {
		debug.FreeOSMemory()
		for _, pid := range []int{s.machine.PID(), os.Getpid()} {
			if err := reclaim.FilePages(pid); err != nil {
				slog.Debug("memory of the start stays", "sandbox", s.opts.ID, "error", err)
			}
		}
	})
	s.releases.push(func() { timer.Stop() })
}

func (s *Sandbox) boot(ctx context.Context, c *Container) error {
	if err := s.enterCgroup(ctx); err != nil {
		return err
	}
	if err := s.startShare(ctx, c.plan); err != nil {
		return err
	}
	if err := s.openNetwork(c.netPath); err != nil {
		return err
	}
	if err := c.runtimeHooks(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.opts.BootTimeout,
		fmt.Errorf("the guest did not answer within %v (vm.boot_timeout)", s.opts.BootTimeout))
	defer cancel()
	if err := s.startMachine(ctx, c.plan); err != nil {
		return err
	}
	if err := s.configure(ctx); err != nil {
		return explainEnd(s.machine, err)
	}
	return nil
}

// startShare starts the file sharing daemon where the plan needs it, with
// what the plan shares already in place.
func (s *Sandbox) startShare(ctx context.Context, plan *storage.Plan) error {
	if !plan.NeedsShare() && s.pod == nil {
		return nil
	}
	defer s.phase(ctx, "share")()
	tree, err := storage.NewTree(s.path("shared"))
	if err != nil {
		return err
	}
	s.tree = tree
	s.releases.push(func() { logError("remove share", s.opts.ID, tree.Close()) })
	for _, e := range plan.Entries {
		if err := tree.Add(e); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.opts.BootTimeout,
		fmt.Errorf("the file sharing daemon was not ready within %v (vm.boot_timeout)", s.opts.BootTimeout))
	defer cancel()
	c := s.opts.Share
	c.Dir, c.RunDir = tree.Dir(), s.opts.Dir
	if s.daemon, err = virtiofsd.Start(ctx, c); err != nil {
		return err
	}
	s.releases.push(s.daemon.Stop)
	return nil
}

// maxBare is how many disks are plugged into a machine that was restored; one
// with more is booted with them.
const maxBare = 2 * qemu.DisksPerPort

func (s *Sandbox) startMachine(ctx context.Context, plan *storage.Plan) error {
	spec := s.opts.Machine
	if s.pod != nil {
		// Disks come with containers.
		spec.HotplugPorts, spec.Cmdline = podPorts, spec.Cmdline+" "+modulesParameter
	}
	// The disks of a template are as large as any image could be, which file
	// systems do not mind and a bare device does: those are plugged in later.
	disks, err := openDisks(plan.Images())
	if err != nil {
		return err
	}
	// The VMM has its own copies of the files.
	defer closeDisks(disks)
	spec.Disks = disks
	if s.bare, err = openDisks(plan.Bare()); err != nil {
		return err
	}
	defer func() {
		closeDisks(s.bare)
		s.bare = nil
	}()
	nics, err := s.network.outline()
	if err != nil {
		return err
	}
	spec.NICs = append(slices.Clip(spec.NICs), nics...)
	s.mu.Lock()
	s.lasting = plan.Lasting()
	s.mu.Unlock()
	if s.daemon != nil {
		spec.Shares = append(spec.Shares, share(s.daemon))
	}
	restored := s.opts.Templates != nil && len(s.bare) <= maxBare
	if restored && s.claim(ctx, spec, plan) {
		return nil
	}
	if err := s.network.wire(ctx, spec.NICs[len(spec.NICs)-len(nics):]); err != nil {
		return err
	}
	defer s.network.inherited()
	if !restored {
		return s.bootMachine(ctx, spec)
	}
	return s.cloneOrBoot(ctx, spec, plan)
}

// configure gives the guest its identity and mounts the share.
func (s *Sandbox) configure(ctx context.Context) error {
	defer s.phase(ctx, "configure")()
	entropy := make([]byte, 64)
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(entropy)
	network := s.guestNetwork()
	_, err := s.client.VM.Configure(ctx, &agentapi.ConfigureRequest{
		Entropy: entropy, TimeUnixNano: time.Now().UnixNano(), Hostname: s.opts.Hostname,
		Interfaces: network.Interfaces, Routes: network.Routes, Neighbours: network.Neighbours, Sysctls: s.sysctls,
	})
	if err != nil {
		return fmt.Errorf("configure the guest: %w", err)
	}
	if s.daemon == nil {
		return nil
	}
	if _, err = s.client.VM.Mount(ctx, shareMount()); err != nil {
		return fmt.Errorf("mount the share in the guest: %w", err)
	}
	return nil
}

func shareMount() *agentapi.MountRequest {
	return &agentapi.MountRequest{Mounts: []*agentapi.Mount{{
		Type: "virtiofs", Source: storage.Tag, Target: storage.GuestShare, Options: []string{"nodev"},
	}}}
}

// Done is closed when the sandbox is stopped and nothing of it is left.
func (s *Sandbox) Done() <-chan struct{} { return s.done }

// Err says why the sandbox ended, nil after Stop. It is valid after Done.
func (s *Sandbox) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// PID returns the process id of the VMM, 0 before Start.
func (s *Sandbox) PID() int {
	if s.machine == nil {
		return 0
	}
	return s.machine.PID()
}
