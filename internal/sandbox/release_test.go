package sandbox

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

func TestReleasesUnwindInReverse(t *testing.T) {
	var r releases
	var order []int
	for i := range 4 {
		r.push(func() { order = append(order, i) })
	}
	r.unwind()
	if want := []int{3, 2, 1, 0}; !slices.Equal(order, want) {
		t.Errorf("order is %v, want %v", order, want)
	}
	r.unwind()
	if len(order) != 4 {
		t.Errorf("a second unwind gives back again: %v", order)
	}
}

func TestLatePushIsGivenBackAtOnce(t *testing.T) {
	var r releases
	r.unwind()
	given := false
	r.push(func() { given = true })
	if !given {
		t.Error("what came after the end stays behind")
	}
}

// TestReleaseMayPush: giving back must not hold the stack's lock.
func TestReleaseMayPush(t *testing.T) {
	var r releases
	given := false
	r.push(func() { r.push(func() { given = true }) })
	r.unwind()
	if !given {
		t.Error("what was pushed while unwinding stays behind")
	}
}

// TestNothingEscapesARace pushes while another unwinds: each is given back
// exactly once, by one or the other.
func TestNothingEscapesARace(t *testing.T) {
	const n = 200
	var r releases
	var given [n]atomic.Int32
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { r.push(func() { given[i].Add(1) }) })
		if i == n/2 {
			all.Go(r.unwind)
		}
	}
	all.Wait()
	r.unwind()
	for i := range given {
		if got := given[i].Load(); got != 1 {
			t.Errorf("release %d ran %d times", i, got)
		}
	}
}
