package imagetest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/image/imagetest"
)

const busybox = "/bin/busybox"

func needBusybox(t *testing.T) {
	t.Helper()
	if exec.Command(busybox, "true").Run() != nil {
		t.Skip("busybox-static is not installed")
	}
}

// headers reads the only layer of a layout.
func headers(t *testing.T, dir string) map[string]*tar.Header {
	t.Helper()
	var index ocispec.Index
	read(t, filepath.Join(dir, "index.json"), &index)
	var m ocispec.Manifest
	read(t, blob(dir, index.Manifests[0].Digest), &m)
	f, err := os.Open(blob(dir, m.Layers[0].Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*tar.Header{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = h
	}
}

func blob(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
}

func read(t *testing.T, path string, to any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestBusyboxLayout(t *testing.T) {
	needBusybox(t)
	dir := t.TempDir()
	if err := imagetest.BusyboxLayout(dir, busybox); err != nil {
		t.Fatal(err)
	}
	all := headers(t, dir)
	for name, want := range map[string]byte{
		"bin/busybox": tar.TypeReg, "bin/sh": tar.TypeLink, "bin/true": tar.TypeLink, "etc/passwd": tar.TypeReg,
		"etc/group": tar.TypeReg, "tmp/": tar.TypeDir, "root/": tar.TypeDir,
	} {
		if h := all[name]; h == nil || h.Typeflag != want {
			t.Errorf("%s: %+v, want type %c", name, h, want)
		}
	}
	again := t.TempDir()
	if err := imagetest.BusyboxLayout(again, busybox); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(filepath.Join(dir, "index.json"))
	b, _ := os.ReadFile(filepath.Join(again, "index.json"))
	if !bytes.Equal(a, b) {
		t.Error("the same busybox gave two images")
	}
	if err := imagetest.BusyboxLayout(dir, "/bin/false"); err == nil {
		t.Error("a program that is no busybox gave no error")
	}
}

// TestOtherTools lets skopeo read what is written here.
func TestOtherTools(t *testing.T) {
	tool, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed")
	}
	img := imagetest.Image{Layers: []*imagetest.Layer{imagetest.NewLayer().File("x", 0o644, "x")}, Config: ocispec.ImageConfig{Cmd: []string{"sh"}}}
	dir := t.TempDir()
	built, err := img.WriteLayout(dir, "v1")
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "a.tar")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := img.WriteDockerArchive(f, "x:y"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"oci:" + dir + ":v1", "docker-archive:" + archive} {
		out, err := exec.Command(tool, "inspect", "--config", ref).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", ref, err, out)
		}
		var c ocispec.Image
		if err := json.Unmarshal(out, &c); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(built.Diffs, c.RootFS.DiffIDs); d != "" {
			t.Errorf("%s: diff ids (-want +got):\n%s", ref, d)
		}
	}
}

func TestTagsReplace(t *testing.T) {
	dir := t.TempDir()
	want := map[string]digest.Digest{}
	for _, tag := range []string{"a", "b", "a"} {
		img := imagetest.Image{Layers: []*imagetest.Layer{imagetest.NewLayer().File(tag, 0o644, string(rune('0'+len(want))))}}
		built, err := img.WriteLayout(dir, tag)
		if err != nil {
			t.Fatal(err)
		}
		want[tag] = built.Manifest.Digest
	}
	var index ocispec.Index
	read(t, filepath.Join(dir, "index.json"), &index)
	got := map[string]digest.Digest{}
	for _, d := range index.Manifests {
		got[d.Annotations[ocispec.AnnotationRefName]] = d.Digest
	}
	if len(index.Manifests) != 2 || !maps.Equal(got, want) {
		t.Errorf("%d tags %v, want %v", len(index.Manifests), got, want)
	}
}

func TestErrorsAreKept(t *testing.T) {
	l := imagetest.NewLayer().HostFile("x", 0o644, "/no/such/file").File("y", 0o644, "")
	img := imagetest.Image{Layers: []*imagetest.Layer{l}}
	if _, err := img.Build(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want %v", err, os.ErrNotExist)
	}
}
