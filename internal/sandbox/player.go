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
	opts    Options
	spec    vmm.MachineSpec
	machine *qemu.Machine
	// shared says that whoever takes the machine plugs a share in.
	shared bool
}

func (p player) play(ctx context.Context, c *agent.Client) error {
	if _, err := c.VM.Configure(ctx, p.identity()); err != nil {
		return err
	}
	for _, r := range p.networks() {
		if _, err := c.VM.SetNetwork(ctx, r); err != nil {
			return err
		}
	}
	if len(p.spec.Disks) > 0 {
		if err := p.playSlot(ctx, c); err != nil {
			return err
		}
	}
	if p.shared {
		if err := p.playShare(ctx, c); err != nil {
			return err
		}
	}
	if p.spec.HotplugPorts > 0 {
		// Of a pod, whose containers may be on disks.
		return p.playDisk(ctx, c)
	}
	if len(p.spec.Disks) == 0 && !p.shared {
		return p.playOwn(ctx, c)
	}
	return nil
}

// playSlot has the image behind the first slot.
func (p player) playSlot(ctx context.Context, c *agent.Client) error {
	plan, err := p.imagePlan()
	if err != nil {
		return err
	}
	plan.UseSerials(qemu.DiskSerial)
	return p.perform(ctx, c, plan.Rootfs, "/bin/true")
}

// playOwn has the guest's own root file system.
func (p player) playOwn(ctx context.Context, c *agent.Client) error {
	return p.perform(ctx, c, &agentapi.Rootfs{
		Lowers:   []*agentapi.Mount{{Type: "bind", Source: "/", Options: []string{"ro"}}},
		Writable: &agentapi.Writable{Mount: &agentapi.Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=0755"}}},
	}, "/init", "--version")
}

// imagePlan is the storage of a container of the rehearsal's image.
func (p player) imagePlan() (*storage.Plan, error) {
	return storage.New(storage.Request{
		ContainerID: playedID, Rootfs: []storage.Mount{{Type: "erofs", Source: "rehearsal", Options: []string{"ro"}}}, WritableSize: p.opts.WritableSize,
	})
}

// perform takes a container through its life.
func (p player) perform(ctx context.Context, c *agent.Client, root *agentapi.Rootfs, args ...string) error {
	request, err := p.bundle(root, args)
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

// networks are what NICs with taps have one after the other: a network like that
// of a namespace, interfaces without one, and nothing, as it was. No network is
// called so: these addresses are for examples.
func (p player) networks() []*agentapi.SetNetworkRequest {
	full, bare := &agentapi.SetNetworkRequest{}, &agentapi.SetNetworkRequest{}
	for i, n := range p.spec.NICs {
		if n.Tap == nil {
			continue
		}
		name := fmt.Sprintf("eth%d", i)
		link := &agentapi.Interface{Name: name, Mac: n.MAC, AssignMac: fmt.Sprintf("02:00:00:00:00:%02x", i), Mtu: 1450, Ipv6: true, BareAddresses: true}
		bare.Interfaces = append(bare.Interfaces, proto.CloneOf(link))
		link.Addresses = []string{fmt.Sprintf("192.0.2.%d/24", i+2)}
		full.Interfaces = append(full.Interfaces, link)
		full.Routes = append(full.Routes, &agentapi.Route{Destination: "192.0.2.0/24", Device: name, LinkScope: true, Source: fmt.Sprintf("192.0.2.%d", i+2), Metric: uint32(i)})
		if i == 0 {
			full.Routes = append(full.Routes, &agentapi.Route{Destination: "0.0.0.0/0", Gateway: "192.0.2.1", Device: name})
		}
	}
	if len(full.Interfaces) == 0 {
		return nil
	}
	return []*agentapi.SetNetworkRequest{full, bare, {}}
}

// bundle is that of a container that runs one program.
func (p player) bundle(root *agentapi.Rootfs, args []string) (*agentapi.CreateBundleRequest, error) {
	run := oci.RunOptions{ID: playedID, Args: args}
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
	r := &agentapi.CreateBundleRequest{Id: playedID, Rootfs: root}
	for _, f := range list {
		r.Files = append(r.Files, &agentapi.File{Name: f.Name, Content: f.Content, Mode: f.Mode})
	}
	if r.Spec, err = json.Marshal(guest.Spec); err != nil {
		return nil, fmt.Errorf("encode guest spec: %w", err)
	}
	return r, nil
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
