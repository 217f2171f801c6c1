package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/network"
	"dougong.dev/dougong/internal/oci"
)

// wire is a container with a server in a network namespace, and the address by
// which it is reached from outside.
type wire struct {
	id       string
	gateway  string
	address  string
	peer     string
	plain    bool
	in, out  string
	ping     string
	inside   *network.Namespace
	attached bool
}

// netLab is a network namespace that plays the host, and guests beside it.
type netLab struct {
	lab         *lab
	iperf, ping string
	outside     *network.Namespace
	wires       []*wire
}

// newNetLab starts the guests. Without the programs for it the error is
// errNoTool.
func (l *lab) newNetLab(ctx context.Context) (*netLab, error) {
	n := &netLab{lab: l, wires: []*wire{
		{id: "bench-tap", peer: "plain0", gateway: "10.9.1.1", address: "10.9.1.2", plain: true, in: rowTapIn, out: rowTapOut, ping: rowTapPing},
		{id: "bench-net", peer: "host0", gateway: "10.9.2.1", address: "10.9.2.2", in: rowNetIn, out: rowNetOut, ping: rowNetPing},
	}}
	for name, path := range map[string]*string{"iperf3": &n.iperf, "ping": &n.ping} {
		var err error
		if *path, err = exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%s is %w", name, errNoTool)
		}
	}
	err := n.setUp(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up a network to measure: %w", err), n.close())
	}
	return n, nil
}

func (n *netLab) setUp(ctx context.Context) (err error) {
	if n.outside, err = network.New(); err != nil {
		return err
	}
	rootfs := n.lab.path("iperf")
	if err := copyProgram(ctx, n.iperf, rootfs); err != nil {
		return err
	}
	for _, w := range n.wires {
		if w.inside, err = network.New(); err != nil {
			return err
		}
		if err := n.plug(w); err != nil {
			return fmt.Errorf("connect two network namespaces: %w", err)
		}
		if err := n.serve(ctx, w, rootfs); err != nil {
			return err
		}
		if !w.plain {
			continue
		}
		if err := n.takeTap(w); err != nil {
			return fmt.Errorf("take the tap out of the network namespace: %w", err)
		}
	}
	return nil
}

// plug gives a wire's namespace an interface whose other end is outside.
func (n *netLab) plug(w *wire) error {
	file, err := os.Open(w.inside.Path())
	if err != nil {
		return err
	}
	defer file.Close()
	err = n.outside.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = w.peer
		return errors.Join(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(file.Fd()))}), configure(w.peer, ""))
	})
	if err == nil && !w.plain {
		err = n.outside.Do(func() error { return configure(w.peer, w.gateway) })
	}
	if err != nil {
		return err
	}
	return w.inside.Do(func() error { return configure("eth0", w.address) })
}

// configure brings an interface of this thread's namespace up, with an address
// if there is one.
func configure(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if address == "" {
		return netlink.LinkSetUp(link)
	}
	addr, err := netlink.ParseAddr(address + "/24")
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
}

// takeTap moves the tap of a running machine out, which leaves the interface
// beside it without a way to the guest. The machine sees nothing of it.
func (n *netLab) takeTap(w *wire) error {
	file, err := os.Open(n.outside.Path())
	if err != nil {
		return err
	}
	defer file.Close()
	var name string
	err = w.inside.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if _, ok := l.(*netlink.Tuntap); ok {
				name = l.Attrs().Name
				return netlink.LinkSetNsFd(l, int(file.Fd()))
			}
		}
		return errors.New("the sandbox has no tap there")
	})
	if err != nil {
		return err
	}
	return n.outside.Do(func() error { return configure(name, w.gateway) })
}

// serve starts a server in a guest.
func (n *netLab) serve(ctx context.Context, w *wire, rootfs string) error {
	spec := oci.Example()
	spec.Root = &specs.Root{Path: rootfs}
	spec.Process.Terminal = false
	spec.Process.Args = []string{n.iperf, "--server"}
	for i := range spec.Linux.Namespaces {
		if ns := &spec.Linux.Namespaces[i]; ns.Type == specs.NetworkNamespace {
			ns.Path = w.inside.Path()
		}
	}
	bundle := n.lab.path(w.id)
	if err := writeJSON(filepath.Join(bundle, "config.json"), spec); err != nil {
		return err
	}
	w.attached = true
	// What the container says goes where what this command says goes.
	log, err := os.Create(filepath.Join(bundle, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	create := n.lab.dougong(ctx, "create", "--bundle", bundle, w.id)
	create.Stdout, create.Stderr = log, log
	if err := create.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		return failure(create, err, string(said))
	}
	return run(n.lab.dougong(ctx, "start", w.id))
}

// outsideOutput runs a command outside and returns what it says.
func (n *netLab) outsideOutput(cmd *exec.Cmd) ([]byte, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := n.outside.Do(cmd.Run); err != nil {
		return out.Bytes(), failure(cmd, err, said.String())
	}
	return out.Bytes(), nil
}

func (n *netLab) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	for _, w := range n.wires {
		if w.attached {
			errs = append(errs, run(n.lab.dougong(ctx, "delete", "--force", w.id)))
		}
		if w.inside != nil {
			errs = append(errs, w.inside.Close())
		}
	}
	if n.outside != nil {
		errs = append(errs, n.outside.Close())
	}
	return errors.Join(errs...)
}

// copyProgram makes a root file system of a program of the host and the
// libraries that it is linked with.
func copyProgram(ctx context.Context, program, rootfs string) error {
	files := []string{program}
	// A program that is linked with none fails here, and needs none.
	if out, err := exec.CommandContext(ctx, "ldd", program).Output(); err == nil {
		for word := range strings.FieldsSeq(string(out)) {
			if filepath.IsAbs(word) {
				files = append(files, word)
			}
		}
	}
	for _, dir := range []string{"dev", "etc", "proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(rootfs, dir), 0o755); err != nil {
			return fmt.Errorf("copy %s: %w", program, err)
		}
	}
	for _, path := range files {
		if err := copyFile(path, filepath.Join(rootfs, path)); err != nil {
			return fmt.Errorf("copy %s: %w", program, err)
		}
	}
	return nil
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(filepath.Clean(from))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_CLOEXEC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
