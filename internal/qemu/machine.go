package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/qmp"
	"dougong.dev/dougong/internal/vmm"
)

// Machine is a running QEMU. It ends by itself when the guest powers off.
type Machine struct {
	spec vmm.MachineSpec
	// fds are the numbers of QEMU's files, where this process started it.
	fds     FDs
	process *child.Process
	// lease is what a machine lives by that can be handed on, nil for others.
	lease   *os.File
	lines   *lines
	qmp     *qmp.Client
	agent   net.Conn
	console *tail
	stderr  *tail
	slots   *slots
	nics    *plugged
	done    chan struct{}
	err     error // valid once done is closed
}

// Start runs QEMU for a machine and returns when it answers on QMP; the guest
// has begun to boot then. ctx bounds the start only. The files of disks and
// shares stay the caller's, who may close them after Start. The kernel kills
// QEMU when this process ends in whatever way, unless it was handed on.
func Start(ctx context.Context, c Config, spec vmm.MachineSpec) (*Machine, error) {
	// Refuse a bad spec before anything is acquired.
	if err := validate(spec); err != nil {
		return nil, err
	}
	l, err := newLines()
	if err != nil {
		return nil, fmt.Errorf("machine %q: %w", spec.Name, err)
	}
	if err := l.openKernel(spec); err != nil {
		l.close()
		return nil, fmt.Errorf("machine %q: %w", spec.Name, err)
	}
	cmd, fds, err := command(c, spec, &l.child)
	if err != nil {
		l.close()
		return nil, err
	}
	process, lease, err := launch(c, cmd)
	if err != nil {
		l.close()
		return nil, fmt.Errorf("machine %q: %w", spec.Name, err)
	}
	l.child.close()
	m := newMachine(process, lease, l, spec)
	m.fds = fds
	m.follow(c, spec)
	if err := m.holdTaps(); err != nil {
		m.Kill()
		return nil, fmt.Errorf("machine %q: %w", spec.Name, err)
	}
	if err := m.handshake(ctx); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	if spec.Saved {
		return m, nil
	}
	if err := m.qmp.Execute(ctx, "cont", nil, nil); err != nil {
		m.Kill()
		return nil, fmt.Errorf("start QEMU: %w", orElse(m.err, err))
	}
	return m, nil
}

func launch(c Config, cmd *exec.Cmd) (*child.Process, *os.File, error) {
	if c.Leased {
		return child.StartLeased(cmd)
	}
	p, err := child.Start(cmd)
	return p, nil, err
}

func newMachine(process *child.Process, lease *os.File, l *lines, spec vmm.MachineSpec) *Machine {
	return &Machine{
		spec: spec, process: process, lease: lease, lines: l, qmp: qmp.New(l.qmp), agent: l.agent,
		console: newTail(consoleSize), stderr: newTail(stderrSize),
		slots: newSlots(spec), nics: newPlugged(spec), done: make(chan struct{}),
	}
}

// handshake waits for QMP. On an error nothing of the machine is left.
func (m *Machine) handshake(ctx context.Context) error {
	_, err := m.qmp.Handshake(ctx)
	if err == nil {
		return nil
	}
	if !errors.Is(err, io.EOF) {
		m.Kill()
		return err
	}
	// QEMU closed the line because it exits: its own end says more than a
	// signal from here would.
	select {
	case <-m.done:
	case <-ctx.Done():
	}
	m.Kill()
	return orElse(m.err, err)
}

// follow reads what QEMU and the guest say until both have ended, and then
// closes done.
func (m *Machine) follow(c Config, spec vmm.MachineSpec) {
	l := m.lines
	var readers sync.WaitGroup
	console := io.Writer(m.console)
	if c.Console != nil {
		console = &tee{first: m.console, second: c.Console}
	}
	end := &ending{machine: spec.Name}
	events := m.qmp.Events(context.Background()) // ends with the connection
	readers.Go(func() { _, _ = io.Copy(console, l.console) })
	readers.Go(func() { _, _ = io.Copy(m.stderr, l.stderr) })
	readers.Go(func() {
		for e := range events {
			end.see(e)
		}
	})
	go func() {
		<-m.process.Done()
		readers.Wait()
		m.qmp.Close()
		l.console.Close()
		l.stderr.Close()
		if m.lease != nil {
			m.lease.Close()
		}
		closeFiles(m.nics.takeQueues())
		end.process = m.process.Err()
		end.console, end.stderr = m.console.String(), m.stderr.String()
		m.err = end.err(explainer{spec: spec, bind: tryBind}.explain)
		close(m.done)
	}()
}

// Agent is the host's end of the agent's virtio-serial port. The caller
// closes it; Kill and Quit do so too.
func (m *Machine) Agent() net.Conn { return m.agent }

// PID is QEMU's process id.
func (m *Machine) PID() int { return m.process.PID() }

// QMP is the connection to QEMU's monitor. It ends with the machine.
func (m *Machine) QMP() *qmp.Client { return m.qmp }

// Done is closed when QEMU is gone, and all that it had said is taken in.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Err is the exit cause: nil while the machine runs, when the guest powered
// itself off and after Quit, else an *ExitError.
func (m *Machine) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

// Console returns the last 64 KiB that the guest printed, without control
// characters.
func (m *Machine) Console() string { return m.console.String() }

// Quit asks QEMU to end without asking the guest, and waits for it. If it has
// not ended when ctx does, it is killed and ctx's error returned.
func (m *Machine) Quit(ctx context.Context) error {
	err := m.qmp.Execute(ctx, "quit", nil, nil)
	if err != nil && !errors.Is(m.qmp.Err(), io.EOF) {
		m.Kill()
		return err
	}
	// Where the line has ended, QEMU has too, perhaps before its answer.
	select {
	case <-m.done:
		m.agent.Close()
		return nil
	case <-ctx.Done():
		m.Kill()
		return fmt.Errorf("quit QEMU: %w", context.Cause(ctx))
	}
}

// Kill ends QEMU at once and waits until nothing of the machine is left. It
// may be called at any time and more than once.
func (m *Machine) Kill() {
	m.process.Kill()
	m.agent.Close()
	<-m.done
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// tee writes to both, and no longer to second once that has failed: the
// guest's console must go on.
type tee struct {
	first, second io.Writer
	failed        bool
}

// Write implements io.Writer.
func (t *tee) Write(p []byte) (int, error) {
	if !t.failed {
		_, err := t.second.Write(p)
		t.failed = err != nil
	}
	return t.first.Write(p)
}
