package image_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image"
)

// smallDisk gives a tmpfs that no mount table shows and that vanishes with the
// test process.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := errors.Join(unix.FsconfigSetString(fs, "size", size), unix.FsconfigCreate(fs)); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

func TestDiskFull(t *testing.T) {
	noise := make([]byte, 3<<20)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	dir, _ := layout(t, hello(string(noise)), "x")
	// The blob fits into neither, and into the second without its EROFS file.
	for _, size := range []string{"1m", "5m"} {
		s := open(t, smallDisk(t, size))
		_, err := s.Pull(t.Context(), parse(t, "oci:"+dir), image.PullOptions{})
		if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "no space left for images in "+s.Root()) {
			t.Fatalf("disk of %s: error %v", size, err)
		}
		wantEmpty(t, s.Root())
	}
}
