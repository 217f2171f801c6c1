package image_test

import (
	"os/exec"
	"testing"

	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/image/imagetest"
)

func busyboxLayout(b *testing.B) string {
	b.Helper()
	if exec.Command("/bin/busybox", "true").Run() != nil {
		b.Skip("busybox-static is not installed")
	}
	dir := b.TempDir()
	if err := imagetest.BusyboxLayout(dir, "/bin/busybox"); err != nil {
		b.Fatal(err)
	}
	return dir
}

// BenchmarkPullStored is what "dougong run" pays for an image that is there.
func BenchmarkPullStored(b *testing.B) {
	dir := busyboxLayout(b)
	s := open(b, b.TempDir())
	pull(b, s, "oci:"+dir)
	for b.Loop() {
		s := open(b, s.Root())
		img := pull(b, s, "oci:"+dir)
		f, err := s.Acquire(b.Context(), img)
		if err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}

// BenchmarkPullNew copies, verifies and flattens busybox, with all its syncs.
func BenchmarkPullNew(b *testing.B) {
	dir := busyboxLayout(b)
	s := open(b, b.TempDir())
	for b.Loop() {
		img := pull(b, s, "oci:"+dir)
		if _, err := s.Remove(b.Context(), img.Ref, image.RemoveOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
