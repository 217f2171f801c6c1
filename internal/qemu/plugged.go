package qemu

import (
	"sync"
	"time"

	"dougong.dev/dougong/internal/vmm"
)

// backendTimeout bounds what QEMU does alone.
const backendTimeout = 10 * time.Second

// plugged says behind which ports the NICs of a machine are that can be
// unplugged.
type plugged struct {
	mu    sync.Mutex
	buses map[string]string
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
