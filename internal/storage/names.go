package storage

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Names gives the binds of a pod's containers their names in the share. Those
// that are of the same thing have one name, and so are the same in the guest:
// sockets, FIFOs, locks and mappings then connect the containers.
type Names struct {
	mu   sync.Mutex
	last int
	held map[identity]*holding
}

// identity tells whether two binds are of the same thing.
type identity struct {
	bind     Bind
	dev, ino uint64
}

// holding is a name that is in use.
type holding struct {
	name string
	uses int
}

// namesDir is the directory of the share for what several containers have. No
// container can be called so.
const namesDir = "_pod"

// Take names a bind until it is given back as often as it was taken. A name is
// never used again, so that nothing remembers what was there before.
func (n *Names) Take(b Bind) string {
	id := identify(b)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held == nil {
		n.held = make(map[identity]*holding)
	}
	h := n.held[id]
	if h == nil {
		n.last++
		h = &holding{name: fmt.Sprintf("%s/%d", namesDir, n.last)}
		n.held[id] = h
	}
	h.uses++
	return h.name
}

// Give gives a name back, and reports whether it was its last use.
func (n *Names) Give(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, h := range n.held {
		if h.name != name {
			continue
		}
		h.uses--
		if h.uses == 0 {
			delete(n.held, id)
			return true
		}
	}
	return false
}

// identify looks at what is there now: it may have been another before.
func identify(b Bind) identity {
	id := identity{bind: b}
	var st unix.Stat_t
	if unix.Stat(b.Source, &st) == nil {
		id.dev, id.ino = st.Dev, st.Ino
	}
	return id
}
