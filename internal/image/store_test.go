package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/image/erofs/erofstest"
	"dougong.dev/dougong/internal/image/imagetest"
	"dougong.dev/dougong/internal/image/layer"
	"dougong.dev/dougong/internal/image/reference"
)

func open(t testing.TB, root string) *image.Store {
	t.Helper()
	s, err := image.Open(root, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parse(t testing.TB, text string) reference.Reference {
	t.Helper()
	ref, err := reference.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func pull(t testing.TB, s *image.Store, text string) *image.Image {
	t.Helper()
	img, err := s.Pull(t.Context(), parse(t, text), image.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// hello is an image of two layers; its only content is /hello.
func hello(content string) *imagetest.Image {
	return &imagetest.Image{
		Layers: []*imagetest.Layer{
			imagetest.NewLayer().Dir("etc", 0o755).File("etc/base", 0o644, "base"),
			imagetest.NewLayer().File("hello", 0o644, content),
		},
		Config: ocispec.ImageConfig{Cmd: []string{"/hello"}, Env: []string{"A=b"}, User: "nobody"},
	}
}

func layout(t testing.TB, img *imagetest.Image, tag string) (string, *imagetest.Built) {
	t.Helper()
	dir := t.TempDir()
	built, err := img.WriteLayout(dir, tag)
	if err != nil {
		t.Fatal(err)
	}
	return dir, built
}

func wantContent(t testing.TB, img *image.Image, name, want string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(erofstest.Mount(t, img.RootFS), name))
	if err != nil || string(b) != want {
		t.Errorf("%s of %s is %q, error %v: want %q", name, img.Ref, b, err, want)
	}
}

// leftovers lists the files of a store below the given directories.
func leftovers(t testing.TB, root string, dirs ...string) []string {
	t.Helper()
	var found []string
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// wantEmpty asserts that a store holds nothing but its names.
func wantEmpty(t testing.TB, root string) {
	t.Helper()
	if found := leftovers(t, root, "oci/blobs", "erofs", "tmp"); len(found) > 0 {
		t.Errorf("left behind: %v", found)
	}
}

func TestPullLayout(t *testing.T) {
	s := open(t, t.TempDir())
	dir, built := layout(t, hello("v1"), "one")
	img := pull(t, s, "oci:"+dir+":one")
	wantContent(t, img, "hello", "v1")
	wantContent(t, img, "etc/base", "base")
	erofstest.Check(t, img.RootFS)
	if img.ID != built.Config || img.Digest != built.Manifest.Digest || img.Platform != "linux/amd64" && img.Platform != "linux/arm64" {
		t.Errorf("id %s, digest %s, platform %q", img.ID, img.Digest, img.Platform)
	}
	if d := cmp.Diff(hello("").Config, img.Config); d != "" {
		t.Errorf("config (-want +got):\n%s", d)
	}
	if info, err := os.Stat(img.RootFS); err != nil || info.Mode() != 0o400 || img.Size <= 0 || !img.Created.Equal(imagetest.Epoch) {
		t.Errorf("mode %v, error %v, size %d, created %v", info.Mode(), err, img.Size, img.Created)
	}
}

func TestLayoutChanges(t *testing.T) {
	s := open(t, t.TempDir())
	dir, _ := layout(t, hello("v1"), "x")
	first := pull(t, s, "oci:"+dir)
	if again := pull(t, s, "oci:"+dir); again.RootFS != first.RootFS {
		t.Errorf("second pull gave %s, first %s", again.RootFS, first.RootFS)
	}
	if _, err := hello("v2").WriteLayout(dir, "x"); err != nil {
		t.Fatal(err)
	}
	wantContent(t, pull(t, s, "oci:"+dir), "hello", "v2")
	if _, err := os.Stat(first.RootFS); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("image that has no name any more is still there: %v", err)
	}
}

func TestArchives(t *testing.T) {
	oci, docker := new(bytes.Buffer), new(bytes.Buffer)
	dir, _ := layout(t, hello("oci"), "v9")
	if err := imagetest.TarLayout(oci, dir); err != nil {
		t.Fatal(err)
	}
	if err := hello("docker").WriteDockerArchive(docker, "hello:v1", "quay.io/a/b:c"); err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(tmp, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ociPath, dockerPath := write("my-image.tar", oci.Bytes()), write("docker.tar", docker.Bytes())
	zipped := write("docker.tar.gz", gzipped(t, docker.Bytes()))

	s := open(t, t.TempDir())
	wantContent(t, pull(t, s, "oci-archive:"+ociPath+":v9"), "hello", "oci")
	wantContent(t, pull(t, s, "oci-archive:"+ociPath), "hello", "oci")
	wantContent(t, pull(t, s, "docker-archive:"+dockerPath), "hello", "docker")
	wantContent(t, pull(t, s, "docker-archive:"+dockerPath+":quay.io/a/b:c"), "hello", "docker")
	wantContent(t, pull(t, s, "docker-archive:"+zipped), "hello", "docker")

	for path, want := range map[string][]string{
		ociPath:    {"localhost/my-image:v9"},
		dockerPath: {"docker.io/library/hello:v1", "quay.io/a/b:c"},
		zipped:     {"docker.io/library/hello:v1", "quay.io/a/b:c"},
	} {
		images, err := s.Load(t.Context(), path, image.PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var refs []string
		for _, img := range images {
			refs = append(refs, img.Ref)
		}
		if d := cmp.Diff(want, refs); d != "" {
			t.Errorf("load %s (-want +got):\n%s", path, d)
		}
	}
	if found := leftovers(t, s.Root(), "tmp"); len(found) > 0 {
		t.Errorf("left behind: %v", found)
	}
}

// An archive that has not changed is not read again.
func TestArchiveStamp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	write := func(content string) {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := hello(content).WriteDockerArchive(f, "x:y"); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, t.TempDir())
	write("first")
	wantContent(t, pull(t, s, "docker-archive:"+path), "hello", "first")
	write("second, longer")
	wantContent(t, pull(t, s, "docker-archive:"+path), "hello", "second, longer")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ref := parse(t, "docker-archive:"+path)
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("archive is gone: error %v, want not found", err)
	}
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{Policy: image.PullNever}); err != nil {
		t.Errorf("archive is gone, policy never: %v", err)
	}
}

func TestDir(t *testing.T) {
	dir := t.TempDir()
	s := open(t, t.TempDir())
	img := pull(t, s, "dir:"+dir)
	if img.Dir != dir || img.RootFS != "" || len(img.Config.Cmd) != 0 {
		t.Errorf("got %+v", img)
	}
	if _, err := s.Pull(t.Context(), parse(t, "dir:"+dir+"/none"), image.PullOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("missing directory: error %v", err)
	}
	wantEmpty(t, s.Root())
}

func TestGetAndList(t *testing.T) {
	s := open(t, t.TempDir())
	dir, built := layout(t, hello("v1"), "one")
	if _, err := hello("v2").WriteLayout(dir, "two"); err != nil {
		t.Fatal(err)
	}
	one := pull(t, s, "oci:"+dir+":one")
	pull(t, s, "oci:"+dir+":two")
	for _, name := range []string{one.Ref, built.Config.String(), built.Config.Encoded()[:12], "sha256:" + built.Config.Encoded()[:8]} {
		img, err := s.Get(name)
		if err != nil || img.Ref != one.Ref {
			t.Errorf("Get(%q): %+v, error %v", name, img, err)
		}
	}
	for _, name := range []string{"busybox", "oci:" + dir, "0123456789ab"} {
		if _, err := s.Get(name); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Get(%q): error %v, want not found", name, err)
		}
	}
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].Ref != one.Ref {
		t.Errorf("list %v, error %v", list, err)
	}
}

func TestRemove(t *testing.T) {
	s := open(t, t.TempDir())
	dir, _ := layout(t, hello("v1"), "one")
	img := pull(t, s, "oci:"+dir+":one")

	f, err := s.Acquire(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), img.Ref, image.RemoveOptions{}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("remove an image in use: error %v", err)
	}
	if _, err := s.Remove(t.Context(), img.Ref, image.RemoveOptions{Force: true}); err != nil {
		t.Errorf("remove by force: %v", err)
	}
	if _, err := os.Stat(img.RootFS); err != nil {
		t.Errorf("file in use was deleted: %v", err)
	}
	f.Close()

	img = pull(t, s, "oci:"+dir+":one")
	users := func(*image.Image) ([]string, error) { return []string{"web"}, nil }
	if _, err := s.Remove(t.Context(), img.Ref, image.RemoveOptions{UsedBy: users}); err == nil || !strings.Contains(err.Error(), "used by web") {
		t.Errorf("remove an image of a container: error %v", err)
	}
	refs, err := s.Remove(t.Context(), img.ID.Encoded()[:10], image.RemoveOptions{})
	if err != nil || len(refs) != 1 || refs[0] != img.Ref {
		t.Errorf("removed %v, error %v", refs, err)
	}
	wantEmpty(t, s.Root())
	if _, err := s.Acquire(t.Context(), img); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("acquire a removed image: error %v", err)
	}
}

func TestRemoveKeepsShared(t *testing.T) {
	s := open(t, t.TempDir())
	dir, _ := layout(t, hello("v1"), "one")
	if _, err := hello("v2").WriteLayout(dir, "two"); err != nil {
		t.Fatal(err)
	}
	if _, err := hello("v1").WriteLayout(dir, "same"); err != nil {
		t.Fatal(err)
	}
	one, two := pull(t, s, "oci:"+dir+":one"), pull(t, s, "oci:"+dir+":two")
	same := pull(t, s, "oci:"+dir+":same")
	if _, err := s.Remove(t.Context(), one.ID.String(), image.RemoveOptions{}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("remove an id with two names: error %v", err)
	}
	if _, err := s.Remove(t.Context(), one.Ref, image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, same, "hello", "v1")
	if _, err := s.Remove(t.Context(), same.Ref, image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, two, "hello", "v2")
	if err := os.Remove(two.RootFS); err != nil {
		t.Fatal(err)
	}
	wantContent(t, pull(t, s, two.Ref), "hello", "v2") // its blobs are all there
}

func TestBadImages(t *testing.T) {
	hostile := func(l *imagetest.Layer) *imagetest.Image { return &imagetest.Image{Layers: []*imagetest.Layer{l}} }
	tests := map[string]struct {
		img    *imagetest.Image
		limits layer.Limits
		want   string
		class  error
	}{
		"dot dot":   {img: hostile(imagetest.NewLayer().File("../../etc/evil", 0o644, "x")), want: "leaves the root"},
		"hard link": {img: hostile(imagetest.NewLayer().Link("x", "../../etc/passwd")), want: "leaves the root"},
		"bytes": {
			img: hostile(imagetest.NewLayer().File("big", 0o644, strings.Repeat("x", 1<<20))), limits: layer.Limits{UnpackedBytes: 1 << 19},
			want: "storage.max_unpacked_gib", class: errdefs.ErrResourceExhausted,
		},
		"file bytes": {
			img: hello(strings.Repeat("x", 1<<20)), limits: layer.Limits{FileBytes: 1 << 19},
			want: "storage.max_files_gib", class: errdefs.ErrResourceExhausted,
		},
		"entries": {img: hello(""), limits: layer.Limits{Entries: 2}, want: "more than 2 entries", class: errdefs.ErrResourceExhausted},
		"diff id": {
			img: &imagetest.Image{Layers: hello("").Layers, Edit: func(c *ocispec.Image) {
				c.RootFS.DiffIDs[1] = "sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
			}},
			want: "the configuration says sha256:0123", class: errdefs.ErrDataLoss,
		},
		"too few diff ids": {
			img:  &imagetest.Image{Layers: hello("").Layers, Edit: func(c *ocispec.Image) { c.RootFS.DiffIDs = nil }},
			want: "names 0 layers, the manifest has 2", class: errdefs.ErrInvalidArgument,
		},
		"platform": {
			img:  &imagetest.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "s390x"}},
			want: "it is for linux/s390x", class: errdefs.ErrNotFound,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := image.Open(t.TempDir(), image.Options{Limits: test.limits})
			if err != nil {
				t.Fatal(err)
			}
			dir, _ := layout(t, test.img, "x")
			_, err = s.Pull(t.Context(), parse(t, "oci:"+dir), image.PullOptions{})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("error %v, want one that names %s and has %q", err, dir, test.want)
			}
			if test.class != nil && !errors.Is(err, test.class) {
				t.Errorf("error %v is not of class %v", err, test.class)
			}
			wantEmpty(t, s.Root())
		})
	}
}

func TestCorruptLayout(t *testing.T) {
	spoil := map[string]struct {
		do   func(b []byte) []byte
		want string
	}{
		"flipped":   {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "it must be sha256:"},
		"truncated": {func(b []byte) []byte { return b[:len(b)-1] }, "cut off"},
		"longer":    {func(b []byte) []byte { return append(b, 0) }, "more than its"},
	}
	for name, test := range spoil {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			dir, built := layout(t, hello("v1"), "x")
			path := filepath.Join(dir, "blobs/sha256", built.Layers[1].Encoded())
			if err := os.WriteFile(path, test.do(built.Blobs[built.Layers[1]]), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.Pull(t.Context(), parse(t, "oci:"+dir), image.PullOptions{})
			if !errors.Is(err, errdefs.ErrDataLoss) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want data loss with %q", err, test.want)
			}
			for _, part := range []string{dir, "layer 2 of 2", built.Layers[1].String()} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %v does not name %s", err, part)
				}
			}
			wantEmpty(t, s.Root())
		})
	}
}

// A blob that went bad in the store is dropped and fetched again.
func TestDamagedStore(t *testing.T) {
	s := open(t, t.TempDir())
	dir, built := layout(t, hello("v1"), "x")
	img := pull(t, s, "oci:"+dir)
	for _, d := range []string{built.Layers[0].Encoded(), built.Manifest.Digest.Encoded()} {
		path := filepath.Join(s.Root(), "oci/blobs/sha256", d)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[10] ^= 1
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(img.RootFS); err != nil {
			t.Fatal(err)
		}
		wantContent(t, pull(t, s, "oci:"+dir), "hello", "v1")
	}
}

func TestNotArchives(t *testing.T) {
	s := open(t, t.TempDir())
	tmp := t.TempDir()
	var other bytes.Buffer
	tw := tar.NewWriter(&other)
	_ = tw.WriteHeader(&tar.Header{Name: "README", Typeflag: tar.TypeReg})
	_ = tw.Close()
	for name, b := range map[string][]byte{"text": []byte(strings.Repeat("not a tar ", 200)), "other.tar": other.Bytes(), "zip": gzipped(t, []byte("x")), "cut.gz": gzipped(t, other.Bytes())[:20]} {
		path := filepath.Join(tmp, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(t.Context(), path, image.PullOptions{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("load %s: error %v", name, err)
		}
	}
	if _, err := s.Load(t.Context(), tmp+"/none", image.PullOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("load of a missing file: error %v", err)
	}
	if _, err := s.Pull(t.Context(), parse(t, "oci:"+tmp), image.PullOptions{}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("directory without a layout: error %v", err)
	}
	wantEmpty(t, s.Root())
}
