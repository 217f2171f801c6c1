package keeper

import (
	"os"

	"dougong.dev/dougong/internal/pool"
)

// status tells how the pool is.
func (k *Keeper[M]) status() *pool.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := &pool.Status{
		PID: os.Getpid(), Since: k.since, Limits: k.Limits, Making: k.making, Trouble: k.trouble, Waiting: []pool.Waiting{},
		Hits: k.count.hits, Misses: k.count.misses, Made: k.count.made, Dropped: k.count.dropped, Failed: k.count.failed,
	}
	var all int64
	for _, it := range k.stock {
		all += it.memory
		s.Waiting = append(s.Waiting, pool.Waiting{
			PID: it.machine.PID(), Kind: it.kind, Description: k.kinds[it.kind].Description, Since: it.since, MemoryMiB: int(it.memory >> 20),
		})
	}
	s.MemoryMiB = int(all >> 20)
	return s
}
