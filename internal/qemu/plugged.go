package qemu

import (
	"fmt"
	"os"
	"sync"
	"time"

	"dougong.dev/dougong/internal/vmm"
)

// backendTimeout bounds what QEMU does alone.
const backendTimeout = 10 * time.Second

// plugged says behind which ports the NICs and shares of a machine are that can
// be unplugged.
type plugged struct {
	mu    sync.Mutex
	buses map[string]string
	// queues are files of the taps that a machine waits with; see Queues.
	queues []*os.File
}

func newPlugged(spec vmm.MachineSpec) *plugged {
	p := &plugged{buses: make(map[string]string)}
	for i, n := range spec.NICs {
		if n.Tap != nil {
			p.buses[n.ID] = nicPort(i)
		}
	}
	return p
}

// hold keeps a file of each tap, so that it can be found wherever it is.
func (p *plugged) hold(nics []vmm.NIC) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range nics {
		if n.Tap == nil {
			continue
		}
		f, err := duplicate(n.Tap.Files[0])
		if err != nil {
			return fmt.Errorf("hold the tap of NIC %q: %w", n.ID, err)
		}
		p.queues = append(p.queues, f)
	}
	return nil
}

// takeQueues gives those files to the caller.
func (p *plugged) takeQueues() []*os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	queues := p.queues
	p.queues = nil
	return queues
}

func (p *plugged) put(id, bus string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buses[id] = bus
}

func (p *plugged) take(id string) (bus string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	bus, ok = p.buses[id]
	delete(p.buses, id)
	return bus, ok
}
