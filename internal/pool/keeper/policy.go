package keeper

import "slices"

// A pool is a mirror of the latest starts: of its machines as many are of a
// kind as of the latest starts were, as many starts as the pool has places. A
// kind that is asked for once takes one place until others have pushed it out;
// where there were fewer starts than places, the latest kind has the rest.

// history are the kinds, by key, of the latest starts, the newest last.
type history []string

// add notes a start, and forgets what is older than the latest size ones.
func (h history) add(key string, size int) history {
	h = append(h, key)
	return h[max(0, len(h)-size):]
}

// wanted is how many machines of each kind a pool of size is to have.
func (h history) wanted(size int) map[string]int {
	h = h[max(0, len(h)-size):]
	wanted := map[string]int{}
	for _, key := range h {
		wanted[key]++
	}
	if len(h) > 0 {
		wanted[h[len(h)-1]] += size - len(h)
	}
	return wanted
}

// next is what brings a stock nearer to what is wanted: the kind to make one
// of, empty for none, and the kinds of which one is to go. The newest kind comes
// first.
func (h history) next(size int, have map[string]int) (grow string, shrink []string) {
	wanted := h.wanted(size)
	total := 0
	for key, n := range have {
		total += n
		for range max(0, n-wanted[key]) {
			shrink = append(shrink, key)
		}
	}
	for _, key := range slices.Backward(h) {
		if have[key] < wanted[key] {
			grow = key
			break
		}
	}
	// One too many does no harm, and may be asked for yet, while there is room.
	spare := size - total
	if grow != "" {
		spare--
	}
	return grow, shrink[:min(len(shrink), max(0, -spare))]
}
