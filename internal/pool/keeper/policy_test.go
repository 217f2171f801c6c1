package keeper

import (
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func itoaInt(n int) string { return strconv.Itoa(n) }

func itoa(f *os.File) string { return strconv.Itoa(int(f.Fd())) }

func TestNext(t *testing.T) {
	for name, tt := range map[string]struct {
		history history
		size    int
		have    map[string]int
		grow    string
		shrink  []string
	}{
		"nobody has asked":                     {nil, 2, nil, "", nil},
		"the only kind has all places":         {history{"a"}, 2, map[string]int{"a": 1}, "a", nil},
		"full":                                 {history{"a"}, 2, map[string]int{"a": 2}, "", nil},
		"a second kind pushes one out":         {history{"a", "a", "b"}, 2, map[string]int{"a": 2}, "b", []string{"a"}},
		"it has one place":                     {history{"a", "b"}, 2, map[string]int{"a": 1, "b": 1}, "", nil},
		"the newest kind first":                {history{"a", "b"}, 2, map[string]int{}, "b", nil},
		"smaller than it was":                  {history{"a"}, 1, map[string]int{"a": 3}, "", []string{"a", "a"}},
		"to be empty":                          {history{"a"}, 0, map[string]int{"a": 1}, "", []string{"a"}},
		"what nobody wants stays while it can": {history{"a"}, 3, map[string]int{"b": 1, "a": 1}, "a", nil},
	} {
		t.Run(name, func(t *testing.T) {
			grow, shrink := tt.history.next(tt.size, tt.have)
			if grow != tt.grow || !slices.Equal(shrink, tt.shrink) {
				t.Errorf("make %q, drop %q; want %q, %q", grow, shrink, tt.grow, tt.shrink)
			}
		})
	}
}

func TestWanted(t *testing.T) {
	h := history{}
	for _, key := range []string{"x", "a", "a", "b", "a"} {
		h = h.add(key, 4)
	}
	if diff := cmp.Diff(map[string]int{"a": 3, "b": 1}, h.wanted(4)); diff != "" {
		t.Error(diff)
	}
}

// TestStockSettles: whatever was asked for, the stock comes to what is wanted
// and never above its size. It tries all starts of three kinds up to a length.
func TestStockSettles(t *testing.T) {
	const length = 6
	for size := range 4 {
		for code := range 729 { // 3^length
			h, have := history{}, map[string]int{}
			for range length {
				h = h.add(string(rune('a'+code%3)), size)
				code /= 3
				settleStock(t, h, size, have)
			}
		}
	}
}

func settleStock(t *testing.T, h history, size int, have map[string]int) {
	t.Helper()
	for range 4 * (size + 1) {
		grow, shrink := h.next(size, have)
		for _, key := range shrink {
			have[key]--
		}
		if grow == "" {
			break
		}
		have[grow]++
		if have["a"]+have["b"]+have["c"] > size {
			t.Fatalf("%v for %d places after %v", have, size, h)
		}
	}
	for key, n := range h.wanted(size) {
		if have[key] != n {
			t.Fatalf("after %v have %v, want %v", h, have, h.wanted(size))
		}
	}
}
