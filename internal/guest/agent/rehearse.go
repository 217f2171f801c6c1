package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	api "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/transport"
)

// A machine that is about to be saved runs one container before, so that
// whatever is made once, on first use, is made once for all of its clones:
// tables that describe messages, caches of the kernel and of this process,
// pages of programs. An emulator translates each piece of code anew in each
// clone, and so spares it all that.

const (
	rehearsalID = "rehearsal"
	// rehearsalTimeout is generous: an emulated machine takes seconds.
	rehearsalTimeout = time.Minute
)

// rehearse serves a container to itself. What it leaves are caches.
func rehearse(ctx context.Context, p parts) error {
	ctx, cancel := context.WithTimeout(ctx, rehearsalTimeout)
	defer cancel()
	near, far, err := socketPair()
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	host := transport.NewHost(near)
	p.offer = taken
	served := make(chan error, 1)
	go func() { served <- serve(ctx, transport.NewGuest(far), p) }()
	err = playHost(ctx, host)
	_ = host.Close()
	if end := <-served; err == nil && !errors.Is(end, errHostGone) {
		err = end
	}
	// The collector has nothing to do for a while then.
	debug.FreeOSMemory()
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	return nil
}

func socketPair() (near, far net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "rehearsal")
		defer f.Close()
		if ends[i], err = net.FileConn(f); err != nil {
			return nil, nil, err
		}
	}
	return ends[0], ends[1], nil
}

// playHost does what a host does from the hello to the end of a container.
func playHost(ctx context.Context, session transport.Session) error {
	ready, err := session.Listen(transport.PortReady)
	if err != nil {
		return err
	}
	defer ready.Close()
	hello, err := ready.Accept()
	if err != nil {
		return err
	}
	defer hello.Close()
	if _, err := transport.ReadHello(hello); err != nil {
		return err
	}
	control, err := session.Dial(ctx, transport.PortControl)
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(control)
	defer client.Close()
	h := &player{session: session, vm: api.NewAgentClient(client), tasks: task.NewTTRPCTaskClient(client)}
	return h.play(ctx)
}

type player struct {
	session transport.Session
	vm      api.AgentService
	tasks   task.TTRPCTaskService
}

func (h *player) play(ctx context.Context) error {
	entropy := make([]byte, 64)
	_, _ = rand.Read(entropy)
	if _, err := h.vm.Configure(ctx, &api.ConfigureRequest{Entropy: entropy, Hostname: rehearsalID}); err != nil {
		return err
	}
	spec, err := rehearsalSpec()
	if err != nil {
		return err
	}
	bundle, err := h.vm.CreateBundle(ctx, &api.CreateBundleRequest{
		Id: rehearsalID, Spec: spec,
		Files: []*api.File{{Name: "hosts", Content: []byte("\n")}},
		Rootfs: &api.Rootfs{
			Lowers:   []*api.Mount{{Type: "bind", Source: "/", Options: []string{"ro"}}},
			Writable: &api.Writable{Mount: &api.Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=0755"}}},
		},
	})
	if err != nil {
		return err
	}
	if err := h.container(ctx, bundle.Bundle); err != nil {
		return err
	}
	_, err = h.vm.DeleteBundle(ctx, &api.DeleteBundleRequest{Id: rehearsalID})
	return err
}

// rehearsalSpec is like that of any container. Its program ends at once.
func rehearsalSpec() ([]byte, error) {
	options := oci.RunOptions{ID: rehearsalID, Args: []string{"/init", "--version"}}
	host, err := oci.Generate(imagespec.ImageConfig{}, options)
	if err != nil {
		return nil, err
	}
	plan, err := oci.Guest(host, oci.GuestOptions{ID: rehearsalID})
	if err != nil {
		return nil, err
	}
	kept := plan.Spec.Mounts[:0]
	for _, m := range plan.Spec.Mounts {
		if m.Type != "bind" {
			kept = append(kept, m)
		}
	}
	plan.Spec.Mounts = kept
	return json.Marshal(plan.Spec)
}

// container takes one through its life.
func (h *player) container(ctx context.Context, bundle string) error {
	r := &task.CreateTaskRequest{ID: rehearsalID, Bundle: bundle, Stdout: "rehearsal/stdout", Stderr: "rehearsal/stderr"}
	for _, id := range []string{r.Stdout, r.Stderr} {
		conn, err := transport.OpenStream(ctx, h.session, id)
		if err != nil {
			return err
		}
		defer conn.Close()
		go func() {
			_, _ = io.Copy(io.Discard, transport.NewStreamReader(conn))
			_ = conn.Close()
		}()
	}
	if _, err := h.tasks.Create(ctx, r); err != nil {
		return err
	}
	if _, err := h.tasks.Start(ctx, &task.StartRequest{ID: rehearsalID}); err != nil {
		return err
	}
	ended, err := h.tasks.Wait(ctx, &task.WaitRequest{ID: rehearsalID})
	if err != nil {
		return err
	}
	if ended.ExitStatus != 0 {
		return fmt.Errorf("the container ended with status %d", ended.ExitStatus)
	}
	_, err = h.tasks.Delete(ctx, &task.DeleteRequest{ID: rehearsalID})
	return err
}
