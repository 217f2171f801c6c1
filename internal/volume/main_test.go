package volume

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/mounttest"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

func mountAt(t *testing.T, fstype, dir, options string) {
	t.Helper()
	if err := unix.Mount(fstype, dir, fstype, 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
