package critest

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/image/imagetest"
)

const (
	// ownImages and e2eImages are where critest looks for its images.
	ownImages = "k8s-staging-cri-tools/"
	e2eImages = "e2e-test-images/"
	// digestImage is pulled by its digest, which critest is built with.
	digestImage = ownImages + "test-image-digest"
	pauseImage  = "pause:3.10.1"
)

// images are all that the suite pulls, by name and tag.
func images(busybox, programs string) (map[string]*imagetest.Image, error) {
	all := map[string]*imagetest.Image{digestImage + ":latest": plain("digest")}
	for _, name := range []string{"latest:latest", "tag:test", "tag:all", "1:latest", "2:latest", "3:latest"} {
		all[ownImages+"test-image-"+name] = plain(name)
	}
	for _, tag := range []string{"1", "2", "3"} {
		all[ownImages+"test-image-tags:"+tag] = plain("tags")
	}
	all[pauseImage] = plain("pause")
	running, err := runningImages(busybox, programs)
	maps.Copy(all, running)
	return all, err
}

// plain is an image that is only looked at. Its layer is not compressed, so that
// the digest is the same with every compressor.
func plain(content string) *imagetest.Image {
	l := imagetest.NewLayer()
	l.MediaType = ocispec.MediaTypeImageLayer
	l.File("content", 0o644, content+"\n")
	return &imagetest.Image{Layers: []*imagetest.Layer{l}, Config: ocispec.ImageConfig{Cmd: []string{"/content"}}}
}

// runningImages are those that containers are made of. Their busybox is not the
// static one, whose shell runs its own ls even if there is none in the image.
func runningImages(busybox, programs string) (map[string]*imagetest.Image, error) {
	all := map[string]*imagetest.Image{}
	for name, config := range map[string]ocispec.ImageConfig{
		e2eImages + "busybox:1.29-2":                        {},
		ownImages + "test-image-user-uid:latest":            {User: "1002"},
		ownImages + "test-image-user-username:latest":       {User: "www-data"},
		ownImages + "test-image-user-uid-group:latest":      {User: "1003:users"},
		ownImages + "test-image-user-username-group:latest": {User: "www-data:100"},
		ownImages + "test-image-predefined-group:latest":    {User: "1000"},
		e2eImages + "nonewprivs:1.3":                        {Cmd: []string{"/nnp"}},
		e2eImages + "httpd:2.4.39-4":                        {Cmd: []string{"/bin/httpd-foreground"}},
		e2eImages + "nginx:1.14-2":                          {Cmd: []string{"nginx", "-g", "daemon off;"}},
		ownImages + "hostnet-nginx-amd64:latest":            {Cmd: []string{"nginx", "-g", "daemon off;"}},
	} {
		image, err := imagetest.Busybox(busybox)
		if err != nil {
			return nil, err
		}
		libraries, err := programLayer(busybox)
		if err != nil {
			return nil, err
		}
		image.Config.User = config.User
		if len(config.Cmd) > 0 {
			image.Config.Cmd = config.Cmd
		}
		image.Layers = append(image.Layers, usersLayer(), libraries)
		switch {
		case strings.Contains(name, "nginx"):
			port := 80
			if strings.Contains(name, "hostnet") {
				port = 12003
			}
			layer, err := nginxLayer(port)
			if err != nil {
				return nil, err
			}
			image.Layers = append(image.Layers, layer)
		case strings.Contains(name, "nonewprivs"):
			image.Layers = append(image.Layers, imagetest.NewLayer().HostFile("nnp", 0o4755, filepath.Join(programs, "nonewprivs")))
		}
		all[name] = image
	}
	return all, nil
}

// usersLayer has the users that images of the suite know, and programs that the
// distribution's busybox lacks.
func usersLayer() *imagetest.Layer {
	return imagetest.NewLayer().
		File("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\ndefault-user:x:1000:1000::/home/default-user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n").
		File("etc/group", 0o644, "root:x:0:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\nnogroup:x:65534:\n").
		File("usr/bin/pgrep", 0o755, "#!/bin/sh\nexec pidof \"$1\"\n").
		File("usr/bin/ipcs", 0o755, "#!/bin/sh\nexec cat /proc/sysvipc/shm\n").
		File("bin/httpd-foreground", 0o755, "#!/bin/sh\necho \"Command line: 'httpd -D FOREGROUND'\" >&2\necho 'It works!' >/tmp/index.html\nexec httpd -f -p 80 -h /tmp\n")
}

// nginxLayer has the host's nginx with its libraries.
func nginxLayer(port int) (*imagetest.Layer, error) {
	const program = "/usr/sbin/nginx"
	l, err := programLayer(program)
	if err != nil {
		return nil, err
	}
	l.HostFile(program[1:], 0o755, program)
	for _, dir := range []string{"etc/nginx", "var/lib/nginx", "var/log/nginx", "usr/share/nginx"} {
		l.Dir(dir, 0o755)
	}
	l.File("usr/share/nginx/index.html", 0o644, "<title>Welcome to nginx!</title>\n")
	l.Add(tar.Header{Typeflag: tar.TypeSymlink, Name: "var/run", Linkname: "/run", Mode: 0o777}, "")
	return l.File("etc/nginx/nginx.conf", 0o644, fmt.Sprintf(`user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log stderr;
events { worker_connections 64; }
http {
  access_log /dev/stdout;
  server { listen %d; root /usr/share/nginx; }
}
`, port)), nil
}

// programLayer has the shared libraries that a program is linked with.
func programLayer(program string) (*imagetest.Layer, error) {
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("libraries of %s: %w", program, err)
	}
	var files []string
	for word := range strings.FieldsSeq(string(out)) {
		if filepath.IsAbs(word) {
			files = append(files, word)
		}
	}
	l := imagetest.NewLayer()
	for _, dir := range parents(files) {
		l.Dir(dir, 0o755)
	}
	for _, f := range files {
		l.HostFile(f[1:], 0o755, f)
	}
	return l, nil
}

// parents are the directories above files, each after those above it.
func parents(files []string) []string {
	seen := map[string]bool{}
	for _, f := range files {
		for dir := filepath.Dir(f); dir != "/"; dir = filepath.Dir(dir) {
			seen[strings.TrimPrefix(dir, "/")] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// buildPrograms builds what the images need beside the host's programs.
func buildPrograms(dir string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "nonewprivs"), "./testdata/nonewprivs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build nonewprivs: %w: %s", err, out)
	}
	return os.MkdirAll(dir, fs.ModePerm)
}
