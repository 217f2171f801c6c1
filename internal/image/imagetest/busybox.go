package imagetest

import (
	"fmt"
	"os/exec"
	"path"
	"sort"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BusyboxLayout writes an OCI layout to dst whose one image, tagged latest,
// holds a statically linked busybox (Debian: /bin/busybox of busybox-static)
// with a hard link for each of its applets, and what a shell needs: users,
// groups, /tmp, /root. It runs the busybox to learn the applets. The result
// depends on the binary alone.
func BusyboxLayout(dst, busyboxPath string) error {
	img, err := Busybox(busyboxPath)
	if err != nil {
		return err
	}
	if _, err := img.WriteLayout(dst, "latest"); err != nil {
		return fmt.Errorf("write busybox image to %s: %w", dst, err)
	}
	return nil
}

// Busybox is the image of BusyboxLayout, to which layers may be added.
func Busybox(busyboxPath string) (*Image, error) {
	applets, err := busyboxApplets(busyboxPath)
	if err != nil {
		return nil, err
	}
	return &Image{
		Layers: []*Layer{busyboxLayer(busyboxPath, applets)},
		Config: ocispec.ImageConfig{
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd: []string{"sh"},
		},
	}, nil
}

func busyboxApplets(busyboxPath string) ([]string, error) {
	out, err := exec.Command(busyboxPath, "--list-full").Output()
	if err != nil {
		return nil, fmt.Errorf("list the applets of %s (it must be busybox): %w", busyboxPath, err)
	}
	applets := strings.Fields(string(out))
	sort.Strings(applets)
	return applets, nil
}

func busyboxLayer(busyboxPath string, applets []string) *Layer {
	l := NewLayer()
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "run", "sbin", "sys", "usr", "usr/bin", "usr/sbin", "var", "var/log"} {
		l.Dir(dir, 0o755)
	}
	l.Dir("root", 0o700).Dir("tmp", 0o1777).Dir("var/tmp", 0o1777)
	l.File("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
	l.File("etc/group", 0o644, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")
	l.File("etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost\n")
	l.HostFile("bin/busybox", 0o755, busyboxPath)
	for _, name := range applets {
		if name = path.Clean(name); name == "bin/busybox" || strings.HasPrefix(name, "..") {
			continue
		}
		l.Link(name, "bin/busybox")
	}
	return l
}
