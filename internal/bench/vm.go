package bench

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/agent"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/seccomp"
	"dougong.dev/dougong/internal/shim"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/transport"
	"dougong.dev/dougong/internal/vmm"
)

// subject is a container, and the machine that it would get from the sandbox
// process, for what is measured without one.
type subject struct {
	id      string
	options sandbox.Options
	storage *storage.Plan
	bundle  *agentapi.CreateBundleRequest
}

// newSubject plans a container that runs true.
func (l *lab) newSubject() (*subject, error) {
	id := record.NewID()
	run := oci.RunOptions{ID: id, Args: []string{"true"}}
	spec, err := oci.Generate(l.image.Config, run)
	if err != nil {
		return nil, err
	}
	bundle := l.path("subject")
	if err := writeJSON(filepath.Join(bundle, "config.json"), spec); err != nil {
		return nil, err
	}
	s := &subject{id: id}
	if s.options, err = shim.Options(l.cfg, id, bundle, bundle); err != nil {
		return nil, err
	}
	// A bare machine has no network.
	s.options.Machine.NICs = nil
	s.storage, err = storage.New(storage.Request{
		ContainerID: id, WritableSize: l.cfg.Storage.WritableSize,
		Rootfs: []storage.Mount{{Type: "erofs", Source: l.image.RootFS, Options: []string{"ro"}}},
	})
	if err != nil {
		return nil, err
	}
	guest, err := oci.Guest(spec, oci.GuestOptions{ID: id})
	if err != nil {
		return nil, err
	}
	seccomp.Embed(guest.Spec)
	files, err := oci.Files(run, nil)
	if err != nil {
		return nil, err
	}
	s.bundle = &agentapi.CreateBundleRequest{Id: id, Rootfs: s.storage.Rootfs}
	for _, f := range files {
		s.bundle.Files = append(s.bundle.Files, &agentapi.File{Name: f.Name, Content: f.Content, Mode: f.Mode})
	}
	s.bundle.Spec, err = json.Marshal(guest.Spec)
	return s, err
}

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// machine is a virtual machine without a sandbox around it.
type machine struct {
	qemu  *qemu.Machine
	agent *agent.Client
	// took is the time in seconds from QEMU's start to the agent's signal.
	took float64
}

// boot starts the subject's machine, with its disks if it is to get any.
func (s *subject) boot(ctx context.Context, withDisks bool) (*machine, error) {
	spec := s.options.Machine
	if withDisks {
		for _, d := range s.storage.Disks {
			f, err := os.Open(d.Path)
			if err != nil {
				return nil, fmt.Errorf("open disk: %w", err)
			}
			defer f.Close()
			spec.Disks = append(spec.Disks, vmm.Disk{Serial: d.Serial, File: f, ReadOnly: d.ReadOnly})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.BootTimeout)
	defer cancel()
	begin := time.Now()
	m := &machine{}
	var err error
	if m.qemu, err = qemu.Start(ctx, s.options.QEMU, spec); err != nil {
		return nil, err
	}
	if err = agent.Await(ctx, m.qemu.Agent()); err == nil {
		m.agent, err = agent.Connect(ctx, m.qemu.Agent())
	}
	if err != nil {
		m.qemu.Kill()
		return nil, err
	}
	m.took = time.Since(begin).Seconds()
	return m, nil
}

func (m *machine) kill() {
	_ = m.agent.Close()
	m.qemu.Kill()
}

// configure makes the guest ready for containers.
func (m *machine) configure(ctx context.Context, hostname string) error {
	entropy := make([]byte, 64)
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(entropy)
	_, err := m.agent.VM.Configure(ctx, &agentapi.ConfigureRequest{
		Entropy: entropy, TimeUnixNano: time.Now().UnixNano(), Hostname: hostname,
	})
	return err
}

// container takes the subject through its whole life in m, and returns how
// many seconds its creation and start took.
func (s *subject) container(ctx context.Context, m *machine) (float64, error) {
	begin := time.Now()
	bundle, err := m.agent.VM.CreateBundle(ctx, s.bundle)
	if err != nil {
		return 0, fmt.Errorf("create bundle: %w", err)
	}
	request := &task.CreateTaskRequest{ID: s.id, Bundle: bundle.GetBundle(), Stdout: s.id + "/stdout", Stderr: s.id + "/stderr"}
	for _, name := range []string{request.Stdout, request.Stderr} {
		conn, err := m.agent.OpenStream(ctx, name)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		go func() { _, _ = io.Copy(io.Discard, transport.NewStreamReader(conn)) }()
	}
	if _, err := m.agent.Task.Create(ctx, request); err != nil {
		return 0, fmt.Errorf("create container: %w", err)
	}
	if _, err := m.agent.Task.Start(ctx, &task.StartRequest{ID: s.id}); err != nil {
		return 0, fmt.Errorf("start container: %w", err)
	}
	took := time.Since(begin).Seconds()
	return took, s.end(ctx, m)
}

// end waits for the subject's end and takes it apart.
func (s *subject) end(ctx context.Context, m *machine) error {
	end, err := m.agent.Task.Wait(ctx, &task.WaitRequest{ID: s.id})
	if err != nil {
		return fmt.Errorf("wait for container: %w", err)
	}
	if end.ExitStatus != 0 {
		return fmt.Errorf("true ended with status %d", end.ExitStatus)
	}
	if _, err := m.agent.Task.Delete(ctx, &task.DeleteRequest{ID: s.id}); err != nil {
		return fmt.Errorf("delete container: %w", err)
	}
	_, err = m.agent.VM.DeleteBundle(ctx, &agentapi.DeleteBundleRequest{Id: s.id})
	return err
}

// measureFloor boots a bare machine.
func (s *subject) measureFloor(ctx context.Context, out *series) error {
	m, err := s.boot(ctx, false)
	if err != nil {
		return err
	}
	m.kill()
	out.add(rowFloor, m.took)
	return nil
}

// measureGuest runs containers in a machine of their own.
func (s *subject) measureGuest(ctx context.Context, out *series) error {
	m, err := s.boot(ctx, true)
	if err != nil {
		return err
	}
	defer m.kill()
	ctx, cancel := context.WithTimeout(ctx, s.options.BootTimeout)
	defer cancel()
	if err := m.configure(ctx, "bench"); err != nil {
		return fmt.Errorf("configure the guest: %w", err)
	}
	took, err := s.container(ctx, m)
	if err != nil {
		return err
	}
	out.add(rowCreate, took)
	info, err := m.agent.VM.Info(ctx, &agentapi.InfoRequest{})
	if err != nil {
		return fmt.Errorf("ask the agent for its size: %w", err)
	}
	out.add(rowAgentRSS, float64(info.GetAgentRss())/megabyte)
	if took, err = s.container(ctx, m); err != nil {
		return err
	}
	out.add(rowAgain, took)
	return nil
}
