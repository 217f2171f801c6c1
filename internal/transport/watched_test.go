package transport

import (
	"io"
	"testing"
	"time"
)

func TestWatchedWriter(t *testing.T) {
	r, to := io.Pipe()
	w := NewWatched(to)
	if w.Stuck(0) || !w.Idle(time.Now().Add(-time.Hour), time.Minute) || w.Idle(time.Now(), time.Minute) {
		t.Error("a writer that nobody uses is stuck, or not idle")
	}
	wrote := make(chan struct{})
	go func() {
		_, _ = w.Write([]byte("ab"))
		close(wrote)
	}()
	for !w.Stuck(time.Millisecond) {
		<-time.After(time.Millisecond)
	}
	if w.Stuck(time.Hour) || w.Idle(time.Now().Add(-time.Hour), time.Minute) {
		t.Error("a write that has begun just now counts as stuck, or as none")
	}
	if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	<-wrote
	if w.Stuck(0) || w.Idle(time.Now().Add(-time.Hour), time.Minute) {
		t.Error("a write that has ended counts as stuck, or is forgotten")
	}
}
