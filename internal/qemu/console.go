package qemu

import (
	"strings"
	"sync"
	"unicode/utf8"
)

// Sizes of what is kept, in bytes.
const (
	consoleSize = 64 << 10
	stderrSize  = 16 << 10
)

// tail keeps the last bytes written to it.
type tail struct {
	mu   sync.Mutex
	ring []byte
	next int // where the next byte goes
}

func newTail(size int) *tail { return &tail{ring: make([]byte, 0, size)} }

// Write implements io.Writer and never fails. The ring grows to its size only
// as it is used: most machines print next to nothing.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if room := cap(t.ring) - len(t.ring); room > 0 {
		k := min(room, len(p))
		t.ring = append(t.ring, p[:k]...)
		p = p[k:]
	}
	p = p[max(0, len(p)-cap(t.ring)):]
	for len(p) > 0 {
		k := copy(t.ring[t.next:], p)
		t.next = (t.next + k) % len(t.ring)
		p = p[k:]
	}
	return n, nil
}

// String returns what is kept, oldest first and fit to be shown: the guest
// chose the bytes, so no control character but line feed and tab is left.
func (t *tail) String() string {
	t.mu.Lock()
	raw := string(t.ring[t.next:]) + string(t.ring[:t.next])
	t.mu.Unlock()
	return printableText(raw)
}

// printableText drops what a terminal would take as a command.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError:
			return -1
		}
		return r
	}, s)
}

// lastLines returns the last n lines of s that are not empty.
func lastLines(s string, n int) []string {
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimRight(line, " \t\n"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}
