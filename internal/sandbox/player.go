package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/agent"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/seccomp"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/transport"
	"dougong.dev/dougong/internal/vmm"
)

// playedID names what is rehearsed; nothing of it stays.
const playedID = "rehearsed"

// player does with a guest what a sandbox does from the agent's hello to the
// end of a container, in the same words.
type player struct {
	opts Options
	spec vmm.MachineSpec
}

func (p player) play(ctx context.Context, c *agent.Client) error {
	if _, err := c.VM.Configure(ctx, p.identity()); err != nil {
		return err
	}
	request, err := p.bundle()
	if err != nil {
		return err
	}
	bundle, err := c.VM.CreateBundle(ctx, request)
	if err != nil {
		return err
	}
	if err := p.container(ctx, c, bundle.GetBundle()); err != nil {
		return err
	}
	_, err = c.VM.DeleteBundle(ctx, &agentapi.DeleteBundleRequest{Id: playedID})
	return err
}

// identity is one that nobody will have.
func (p player) identity() *agentapi.ConfigureRequest {
	entropy := make([]byte, 64)
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(entropy)
	r := &agentapi.ConfigureRequest{Entropy: entropy, TimeUnixNano: time.Now().UnixNano(), Hostname: playedID, Routes: p.opts.Routes}
	for _, i := range p.opts.Interfaces {
		i = proto.CloneOf(i)
		i.AssignMac = fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", entropy[0], entropy[1], entropy[2], entropy[3], entropy[4])
		r.Interfaces = append(r.Interfaces, i)
	}
	return r
}

// bundle is that of a container of the rehearsal's image.
func (p player) bundle() (*agentapi.CreateBundleRequest, error) {
	run := oci.RunOptions{ID: playedID, Args: []string{"/bin/true"}}
	if len(p.spec.Disks) == 0 {
		// The guest's own root has nothing else.
		run.Args = []string{"/init", "--version"}
	}
	host, err := oci.Generate(imagespec.ImageConfig{}, run)
	if err != nil {
		return nil, err
	}
	guest, err := oci.Guest(host, oci.GuestOptions{ID: playedID})
	if err != nil {
		return nil, err
	}
	seccomp.Embed(guest.Spec)
	list, err := oci.Files(run, nil)
	if err != nil {
		return nil, err
	}
	r := &agentapi.CreateBundleRequest{Id: playedID}
	for _, f := range list {
		r.Files = append(r.Files, &agentapi.File{Name: f.Name, Content: f.Content, Mode: f.Mode})
	}
	if r.Rootfs, err = p.rootfs(); err != nil {
		return nil, err
	}
	if r.Spec, err = json.Marshal(guest.Spec); err != nil {
		return nil, fmt.Errorf("encode guest spec: %w", err)
	}
	return r, nil
}

// rootfs is the image, or what the guest itself has where there is no disk.
func (p player) rootfs() (*agentapi.Rootfs, error) {
	if len(p.spec.Disks) == 0 {
		return &agentapi.Rootfs{
			Lowers:   []*agentapi.Mount{{Type: "bind", Source: "/", Options: []string{"ro"}}},
			Writable: &agentapi.Writable{Mount: &agentapi.Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=0755"}}},
		}, nil
	}
	plan, err := storage.New(storage.Request{
		ContainerID: playedID, Rootfs: []storage.Mount{{Type: "erofs", Source: "rehearsal", Options: []string{"ro"}}}, WritableSize: p.opts.WritableSize,
	})
	if err != nil {
		return nil, err
	}
	plan.UseSerials(qemu.DiskSerial)
	return plan.Rootfs, nil
}

// container takes one through its life.
func (p player) container(ctx context.Context, c *agent.Client, bundle string) error {
	r := &task.CreateTaskRequest{ID: playedID, Bundle: bundle, Stdout: playedID + "//stdout", Stderr: playedID + "//stderr"}
	for _, id := range []string{r.Stdout, r.Stderr} {
		conn, err := c.OpenStream(ctx, id)
		if err != nil {
			return err
		}
		defer conn.Close()
		go drain(conn)
	}
	if _, err := c.Task.Create(ctx, r); err != nil {
		return err
	}
	if _, err := c.Task.Start(ctx, &task.StartRequest{ID: playedID}); err != nil {
		return err
	}
	ended, err := c.Task.Wait(ctx, &task.WaitRequest{ID: playedID})
	if err != nil {
		return err
	}
	if ended.GetExitStatus() != 0 {
		return fmt.Errorf("the container of the rehearsal ended with status %d", ended.GetExitStatus())
	}
	_, err = c.Task.Delete(ctx, &task.DeleteRequest{ID: playedID})
	return err
}

// drain reads a stream to its end and closes it, which the guest waits for.
func drain(conn net.Conn) {
	_, _ = io.Copy(io.Discard, transport.NewStreamReader(conn))
	_ = conn.Close()
}
