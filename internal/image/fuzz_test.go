package image_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/image/imagetest"
	"dougong.dev/dougong/internal/image/layer"
)

// FuzzLoad feeds hostile archives: tables of contents, manifests, indexes,
// configurations and links. There must be an error, or images that are whole,
// and nothing that has no name.
func FuzzLoad(f *testing.F) {
	var docker, oci bytes.Buffer
	if err := hello("x").WriteDockerArchive(&docker, "a:b"); err != nil {
		f.Fatal(err)
	}
	dir, _ := layout(f, hello("x"), "v1")
	if err := imagetest.TarLayout(&oci, dir); err != nil {
		f.Fatal(err)
	}
	f.Add(docker.Bytes())
	f.Add(oci.Bytes())
	f.Add(gzipped(f, docker.Bytes()))
	f.Add(bytes.ReplaceAll(docker.Bytes(), []byte("0/layer.tar"), []byte("../../../et")))
	f.Add(bytes.ReplaceAll(oci.Bytes(), []byte("sha256:"), []byte("../256:")))
	limits := layer.Limits{UnpackedBytes: 1 << 20, FileBytes: 1 << 20, Entries: 1000, MetadataBytes: 1 << 20}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := image.Open(t.TempDir(), image.Options{Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "archive")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		images, err := s.Load(t.Context(), path, image.PullOptions{})
		if found := leftovers(t, s.Root(), "tmp"); len(found) > 0 {
			t.Errorf("left behind: %v", found)
		}
		if err != nil {
			return
		}
		for _, img := range images {
			if _, err := os.Stat(img.RootFS); err != nil {
				t.Errorf("image %s is not whole: %v", img.Ref, err)
			}
		}
	})
}
