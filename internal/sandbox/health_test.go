package sandbox

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestHealthOfAGuestThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, asked := time.Now(), 0
		ask := func(ctx context.Context) error {
			if asked++; asked <= 3 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		if answers(ask, time.Minute, nil) {
			t.Error("a guest that hangs is well")
		}
		if took := time.Since(begin); took != 5*time.Minute {
			t.Errorf("it took %v to find out", took)
		}
	})
}

func TestHealthOfAGuestWithErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		time.AfterFunc(time.Hour, func() { close(done) })
		slow := func(ctx context.Context) error {
			time.Sleep(59 * time.Second)
			return errors.New("no figures")
		}
		if !answers(slow, time.Minute, done) {
			t.Error("an answer that is late but in time counts as none")
		}
	})
}
