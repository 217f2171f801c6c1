package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/image/imagetest"
)

// testLab is a lab with a small image and no guest.
func testLab(t *testing.T) *lab {
	t.Helper()
	layout := t.TempDir()
	img := imagetest.Image{
		Layers: []*imagetest.Layer{imagetest.NewLayer().Dir("etc", 0o755).File("etc/motd", 0o644, "hello")},
		Config: ocispec.ImageConfig{Env: []string{"A=1"}},
	}
	if _, err := img.WriteLayout(layout, "latest"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	cfg := config.Default()
	cfg.Template.MemoryDir = filepath.Join(t.TempDir(), "templates")
	cfg.VM.Kernel, cfg.VM.Initrd = "/kernel", "/initrd"
	l, err := newLab(t.Context(), "/bin/false", cfg, "oci:"+layout+":latest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(l.dir) })
	return l
}

func TestExtend(t *testing.T) {
	l := testLab(t)
	file := filepath.Join(t.TempDir(), fileName)
	if err := writeNoise(file, 100_000); err != nil {
		t.Fatal(err)
	}
	layout := l.path("layout")
	if err := l.extend(layout, file); err != nil {
		t.Fatal(err)
	}
	// The store verifies every digest.
	extended, err := l.pull(t.Context(), "oci:"+layout)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l.image.Config, extended.Config); diff != "" || extended.ID == l.image.ID {
		t.Errorf("configuration of %s (-base +extended):\n%s", extended.ID, diff)
	}
	if extended.Size < l.image.Size+100_000 {
		t.Errorf("sizes %d and %d", l.image.Size, extended.Size)
	}
}

func TestLayerHoldsTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data")
	if err := writeNoise(file, 12_345); err != nil {
		t.Fatal(err)
	}
	blobs := t.TempDir()
	desc, err := writeLayer(blobs, file)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := os.ReadFile(filepath.Join(blobs, desc.Digest.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(layer)) != desc.Size {
		t.Errorf("%d bytes, the descriptor has %d", len(layer), desc.Size)
	}
	r := tar.NewReader(bytes.NewReader(layer))
	h, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	want, _ := os.ReadFile(file)
	if err != nil || h.Name != "data" || !bytes.Equal(content, want) {
		t.Errorf("%q with %d bytes, %v", h.Name, len(content), err)
	}
	if entries, _ := os.ReadDir(blobs); len(entries) != 1 {
		t.Errorf("left beside the layer: %v", entries)
	}
}

func TestNoiseIsTheSameEachTimeAndDoesNotRepeat(t *testing.T) {
	var sums [][32]byte
	for range 2 {
		path := filepath.Join(t.TempDir(), "noise")
		if err := writeNoise(path, 1<<16); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(data[:1<<12], data[1<<12:1<<13]) {
			t.Error("it repeats")
		}
		sums = append(sums, sha256.Sum256(data))
	}
	if sums[0] != sums[1] {
		t.Error("it differs from time to time")
	}
}

func TestLabLeavesNothing(t *testing.T) {
	l := testLab(t)
	cfg, err := config.Load(l.configPath)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Storage.Root != l.path("storage") || cfg.Runtime.State != l.path("state") || cfg.VM.Kernel != "/kernel" {
		t.Errorf("configuration: %+v", cfg)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(l.dir)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestFailedSetUpLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	cfg := config.Default()
	cfg.Template.MemoryDir = filepath.Join(t.TempDir(), "templates")
	cfg.VM.Kernel, cfg.VM.Initrd = "/kernel", "/initrd"
	if _, err := newLab(t.Context(), "/bin/false", cfg, "oci:/no/such/layout"); err == nil || !strings.Contains(err.Error(), "/no/such/layout") {
		t.Errorf("error %v", err)
	}
	if _, err := newLab(t.Context(), "/bin/false", cfg, "dir:/"); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestRunRefusesNoRuns(t *testing.T) {
	if _, err := Run(context.Background(), Options{Runs: 0}); err == nil || !strings.Contains(err.Error(), "once") {
		t.Errorf("error %v", err)
	}
}

func TestUnpack(t *testing.T) {
	l := testLab(t)
	dir := l.path("rootfs")
	if err := l.unpack(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "etc/motd")); string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	l.image = &image.Image{Digest: digest.FromString("not in the store")}
	if err := l.unpack(t.Context(), l.path("other")); err == nil {
		t.Error("an image that is not there is unpacked")
	}
}
