package vm

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/image/imagetest"
)

// imageWithFile is an image with a shell and one more file.
func imageWithFile(path, content string) *imagetest.Image {
	l := imagetest.NewLayer()
	for _, dir := range []string{"bin", "etc", "tmp", "proc", "sys", "dev", "home"} {
		l.Dir(dir, 0o755)
	}
	l.HostFile("bin/busybox", 0o755, busyboxPath)
	for _, applet := range []string{"sh", "cat", "id", "ls", "pwd", "stat", "true", "sleep", "touch"} {
		l.Symlink("bin/"+applet, "busybox")
	}
	l.File("etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\napp:x:1234:5678::/home/app:/bin/sh\n")
	l.File("etc/group", 0o644, "root:x:0:\napp:x:5678:\nextra:x:91:app\n")
	l.File(path, 0o644, content)
	return &imagetest.Image{Layers: []*imagetest.Layer{l}, Config: ocispec.ImageConfig{Cmd: []string{"/bin/cat", "/" + path}}}
}

func writeImage(t *testing.T, dir string, img *imagetest.Image) *imagetest.Built {
	t.Helper()
	built, err := img.WriteLayout(dir, "latest")
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// TestImageConfig runs what the image says.
func TestImageConfig(t *testing.T) {
	in := install(t)
	img := imageWithFile("seed/kept", "from the image")
	img.Config = ocispec.ImageConfig{
		Entrypoint: []string{"/bin/sh", "-c"},
		Cmd:        []string{`echo "id=$(id -u):$(id -g) $(id -G)"; echo "env=$FROM_IMAGE $HOME"; echo "pwd=$(pwd)"; touch /seed/x && echo "seed=$(cat /seed/kept)"; echo "data=$(stat -c %a:%u /data)"`},
		Env:        []string{"PATH=/bin", "FROM_IMAGE=yes"},
		WorkingDir: "/made/for/it", User: "app", StopSignal: "SIGUSR2",
		Volumes: map[string]struct{}{"/data": {}},
		Labels:  map[string]string{"from": "image"},
	}
	// The process is not root and must be able to write to it.
	img.Layers = append(img.Layers, imagetest.NewLayer().Dir("seed", 0o777).Dir("data", 0o777))
	dir := in.path("layout")
	writeImage(t, dir, img)
	r := in.dougong("run", "--name", "box", "-l", "more=1", "oci:"+dir)
	want := map[string]string{"id": "1234:5678 5678 91", "env": "yes /home/app", "pwd": "/made/for/it", "seed": "from the image", "data": "777:0"}
	if diff := cmp.Diff(want, facts(r.stdout)); diff != "" || r.code != 0 {
		t.Errorf("(-want +got):\n%s\n%v", diff, r)
	}
	c := in.inspect("box")
	if diff := cmp.Diff(map[string]string{"from": "image", "more": "1"}, c.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if !strings.Contains(c.StopSignal, "USR2") && c.StopSignal != "12" {
		t.Errorf("stop signal %q", c.StopSignal)
	}
	t.Run("image in use", func(t *testing.T) {
		in.dougong("rmi", "oci:"+dir).wantError(t, 1, "box")
	})
	in.must("rm", "box")
	in.must("rmi", "oci:"+dir)
	if out := in.must("images"); strings.Contains(out, dir) {
		t.Errorf("a removed image is listed:\n%s", out)
	}
}

// TestOtherConfig replaces what the image says, and has its volume written to.
func TestOtherConfig(t *testing.T) {
	in := install(t)
	img := imageWithFile("seed", "x")
	img.Config = ocispec.ImageConfig{Entrypoint: []string{"/bin/ls"}, Cmd: []string{"/"}, User: "app", Volumes: map[string]struct{}{"/data": {}}}
	dir := in.path("layout")
	writeImage(t, dir, img)
	r := in.dougong("run", "--rm", "--entrypoint", "/bin/sh", "-u", "root", "--read-only", "oci:"+dir, "-c", "id -u; touch /data/x && ls /data; touch /x 2> /dev/null || echo refused")
	if r.code != 0 || r.stdout != "0\nx\nrefused\n" {
		t.Error(r)
	}
	in.must("rmi", "oci:"+dir)
}

// TestSources runs images from everywhere they can come from.
func TestSources(t *testing.T) {
	t.Run("archives", func(t *testing.T) {
		in := install(t)
		dir := in.path("layout")
		img := imageWithFile("which", "archive")
		writeImage(t, dir, img)
		oci, docker := in.path("oci.tar"), in.path("docker.tar")
		createFile(t, oci, func(w io.Writer) error { return imagetest.TarLayout(w, dir) })
		createFile(t, docker, func(w io.Writer) error {
			return imageWithFile("which", "docker archive").WriteDockerArchive(w, "example.com/app:v1")
		})
		if out := in.must("run", "--rm", "oci-archive:"+oci); out != "archive" {
			t.Errorf("oci-archive: %q", out)
		}
		if out := in.must("run", "--rm", "docker-archive:"+docker); out != "docker archive" {
			t.Errorf("docker-archive: %q", out)
		}
		if out := in.must("load", "-i", docker); out != "Loaded image: example.com/app:v1" {
			t.Errorf("load: %q", out)
		}
		if out := in.must("images"); !strings.Contains(out, "example.com/app:v1") {
			t.Errorf("images:\n%s", out)
		}
		in.must("rmi", "example.com/app:v1")
		in.dougong("rmi", "example.com/app:v1").wantError(t, 1, "example.com/app:v1")
		in.dougong("load", "-i", in.writeFile("junk", "junk")).wantError(t, 1, "junk")
	})
	t.Run("directory", func(t *testing.T) {
		in := install(t)
		root := in.mkdir("rootfs")
		for _, name := range []string{"bin", "etc", "proc"} {
			in.mkdir("rootfs/" + name)
		}
		if err := copyFile(filepath.Join(root, "bin/busybox"), busyboxPath); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(root, "bin/busybox"), 0o755); err != nil {
			t.Fatal(err)
		}
		in.writeFile("rootfs/etc/which", "directory")
		out := in.must("run", "--rm", "dir:"+root, "/bin/busybox", "sh", "-c", "/bin/busybox cat /etc/which; echo changed > /etc/which; echo; /bin/busybox cat /etc/which")
		if out != "directory\nchanged" {
			t.Errorf("output %q", out)
		}
		if data, err := os.ReadFile(filepath.Join(root, "etc/which")); string(data) != "directory" {
			t.Errorf("the container changed its image: %q, %v", data, err)
		}
	})
	t.Run("registry", func(t *testing.T) {
		in := install(t)
		ref := serveImage(t, in, imageWithFile("which", "registry"))
		if out := in.must("run", "--rm", ref); out != "registry" {
			t.Errorf("output %q", out)
		}
		in.must("pull", "docker://"+ref)
		if out := in.must("images"); !strings.Contains(out, ref) {
			t.Errorf("images:\n%s", out)
		}
		in.must("rmi", ref)
		in.dougong("run", "--rm", "--pull", "never", ref).wantError(t, 125, ref)
		in.dougong("run", "--rm", strings.Replace(ref, ":v1", ":v2", 1)).wantError(t, 125, "v2")
	})
}

func createFile(t *testing.T, path string, write func(io.Writer) error) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := write(f); err != nil {
		t.Fatal(err)
	}
}

// serveImage puts an image into a registry of this process.
func serveImage(t *testing.T, in *installation, img *imagetest.Image) (ref string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	dir := in.path("served")
	writeImage(t, dir, img)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	ref = strings.TrimPrefix(server.URL, "http://") + "/team/app:v1"
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parsed, image); err != nil {
		t.Fatal(err)
	}
	return ref
}
