package layer_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dougong.dev/dougong/internal/image/imagetest"
	"dougong.dev/dougong/internal/image/layer"
)

// FuzzApply feeds two hostile layers. Whatever they are, there is an error or
// an image within the limits, and no file but the image is touched.
func FuzzApply(f *testing.F) {
	n := imagetest.NewLayer
	seeds := []*imagetest.Layer{
		n().Dir("d", 0o755).File("d/f", 0o644, "x").Symlink("s", "d").Link("l", "d/f"),
		n().File("../x", 0o644, "").Link("l", "../../etc/passwd"),
		n().Whiteout("d/.wh.f").Whiteout("d/.wh..wh..opq").Whiteout(".wh.d"),
		n().Symlink("a", "/b").Symlink("b", "a").File("a/c", 0o644, ""),
		n().Symlink("up", "../../..").File("up/etc/x", 0o644, "x"),
		n().Add(tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, ""),
	}
	for _, l := range seeds {
		f.Add(tarOf(f, l), tarOf(f, seeds[2]))
		seeds[2] = n().Whiteout("d/.wh.f")
	}
	f.Add(sparse(1<<20, []byte("x")), []byte{0x1f, 0x8b, 8})
	limits := layer.Limits{UnpackedBytes: 1 << 22, FileBytes: 1 << 24, Entries: 1000, MetadataBytes: 1 << 20, Ratio: 100}
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		out, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		b, err := layer.NewBuilder(out, limits)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range [][]byte{lower, upper} {
			if _, err := b.Apply(t.Context(), bytes.NewReader(l), nil); err != nil {
				return
			}
		}
		stats, err := b.Finish([16]byte{})
		if err != nil && !strings.Contains(err.Error(), "extended attribute") {
			t.Fatalf("layers were taken, but make no image: %v", err)
		}
		if err == nil && stats.Bytes > 64<<20 {
			t.Errorf("image has %d bytes", stats.Bytes)
		}
	})
}
