package tsc

import (
	"testing"
	"time"
)

// TestKHz measures twice, over a window and over one that is twenty times as
// long. Counters that this code meets run at more than 500 MHz.
func TestKHz(t *testing.T) {
	short, err := KHz()
	if err != nil {
		t.Fatal(err)
	}
	first, err := read()
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(20 * window)
	second, err := read()
	if err != nil {
		t.Fatal(err)
	}
	long := rate(first, second)
	if short < 500_000 || short > long+long/1000 || short < long-long/1000 {
		t.Errorf("the counter runs at %d kHz, and for longer at %d kHz", short, long)
	}
	if again, err := KHz(); again != short || err != nil {
		t.Errorf("asked again it is %d kHz, %v", again, err)
	}
}

func TestRate(t *testing.T) {
	first, second := reading{ticks: 1000, clock: time.Second}, reading{ticks: 1000 + 26_000_000, clock: time.Second + 10*time.Millisecond}
	if got := rate(first, second); got != 2_600_000 {
		t.Errorf("it runs at %d kHz", got)
	}
}
