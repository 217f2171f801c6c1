package guestimage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Options say what an image is built from.
type Options struct {
	Kernel Kernel
	// Agent and Crun are binaries for the guest.
	Agent, Crun string
}

// Image is a built guest image.
type Image struct {
	// ID is the digest of everything in it.
	ID string `json:"id"`
	// Release is the kernel's, as uname -r prints it.
	Release string `json:"kernelRelease"`
	// Kernel and Initrd are paths of files to boot.
	Kernel string `json:"kernel"`
	Initrd string `json:"initrd"`
	// KernelSize and InitrdSize are in bytes.
	KernelSize int `json:"kernelSize"`
	InitrdSize int `json:"initrdSize"`
	// Modules are the kernel modules in it, in the order of loading.
	Modules []string `json:"modules"`
	// Inputs are the SHA-256 digests of the files it was built from, beside
	// the modules.
	Inputs map[string]string `json:"inputs"`
	// Created is when it was built. It is no part of the content.
	Created time.Time `json:"created"`
}

const (
	fileKernel   = "vmlinux"
	fileInitrd   = "initramfs.cpio"
	fileManifest = "manifest.json"
	// linkCurrent names the image that sandboxes boot.
	linkCurrent = "current"
)

// Build makes an image below dir and makes it the current one. Building the
// same again, at the same time or later, gives the same image.
func Build(dir string, o Options) (*Image, error) {
	kernel, initrd, modules, err := content(o)
	if err != nil {
		return nil, fmt.Errorf("build guest image: %w", err)
	}
	img := &Image{
		ID: identify(kernel, initrd), Release: o.Kernel.Release, Created: time.Now().UTC(),
		KernelSize: len(kernel), InitrdSize: len(initrd),
	}
	for _, m := range modules {
		img.Modules = append(img.Modules, m.name)
	}
	if img.Inputs, err = digests(map[string]string{"kernel": o.Kernel.Image, "agent": o.Agent, "crun": o.Crun}); err != nil {
		return nil, fmt.Errorf("build guest image: %w", err)
	}
	if err := install(dir, img, kernel, initrd); err != nil {
		return nil, fmt.Errorf("build guest image: %w", err)
	}
	return open(dir, img.ID)
}

func content(o Options) (kernel, initrd []byte, modules []module, err error) {
	packed, err := os.ReadFile(o.Kernel.Image)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read the kernel: %w", err)
	}
	if kernel, err = Unpack(packed); err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", o.Kernel.Image, err)
	}
	if kernel, err = SlimKernel(kernel); err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", o.Kernel.Image, err)
	}
	if err := checkPVH(kernel); err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", o.Kernel.Image, err)
	}
	index, err := indexModules(o.Kernel.Modules)
	if err != nil {
		return nil, nil, nil, err
	}
	if modules, err = index.resolve(wishes); err != nil {
		return nil, nil, nil, err
	}
	initrd, err = initramfs(o.Agent, o.Crun, modules)
	return kernel, initrd, modules, err
}

// digests are those of the files at paths, by the same names.
func digests(paths map[string]string) (map[string]string, error) {
	sums := map[string]string{}
	for name, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		sum := sha256.Sum256(data)
		sums[name] = hex.EncodeToString(sum[:])
	}
	return sums, nil
}

func identify(kernel, initrd []byte) string {
	h := sha256.New()
	for _, part := range [][]byte{kernel, initrd} {
		sum := sha256.Sum256(part)
		_, _ = h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// install writes the image beside its place and moves it there in one step.
func install(dir string, img *Image, kernel, initrd []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if _, err := open(dir, img.ID); err == nil {
		return setCurrent(dir, img.ID)
	}
	staging, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	manifest, err := json.MarshalIndent(img, "", "  ")
	if err != nil {
		return err
	}
	// The VMM runs as another user and opens kernel and initramfs by name.
	if err := os.Chmod(staging, 0o755); err != nil {
		return err
	}
	for name, data := range map[string][]byte{fileKernel: kernel, fileInitrd: initrd, fileManifest: manifest} {
		if err := writeFile(filepath.Join(staging, name), data); err != nil {
			return err
		}
	}
	place := filepath.Join(dir, img.ID)
	if err := os.Rename(staging, place); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return setCurrent(dir, img.ID)
}

// writeFile writes a file that every user can read, whatever the umask, and
// that is whole on the disk before the image gets its name.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(0o444), f.Sync(), f.Close())
}

// setCurrent replaces the link in one step. The new link is made in a
// directory of its own, so that two builds do not meet.
func setCurrent(dir, id string) error {
	staging, err := os.MkdirTemp(dir, ".current-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	link := filepath.Join(staging, linkCurrent)
	if err := os.Symlink(id, link); err != nil {
		return err
	}
	return os.Rename(link, filepath.Join(dir, linkCurrent))
}

func open(dir, id string) (*Image, error) {
	place := filepath.Join(dir, id)
	data, err := os.ReadFile(filepath.Join(place, fileManifest))
	if err != nil {
		return nil, err
	}
	img := new(Image)
	if err := json.Unmarshal(data, img); err != nil {
		return nil, fmt.Errorf("guest image %s is damaged: %w", place, err)
	}
	img.Kernel, img.Initrd = filepath.Join(place, fileKernel), filepath.Join(place, fileInitrd)
	return img, nil
}

// CurrentLink is the link by which Current finds the image.
func CurrentLink(dir string) string { return filepath.Join(dir, linkCurrent) }

// Current returns the image that sandboxes boot; errdefs.ErrNotFound when
// none was built.
func Current(dir string) (*Image, error) {
	id, err := os.Readlink(filepath.Join(dir, linkCurrent))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no guest image in %s: build one with 'dougong guest build': %w", dir, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("find the guest image: %w", err)
	}
	img, err := open(dir, id)
	if err != nil {
		return nil, fmt.Errorf("guest image %s cannot be used, build it again with 'dougong guest build': %w", id, err)
	}
	return img, nil
}

// List returns all images below dir, the newest first.
func List(dir string) ([]*Image, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list guest images: %w", err)
	}
	var list []*Image
	for _, e := range entries {
		// Neither the link to the current image nor one that is being built.
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		img, err := open(dir, e.Name())
		if err != nil {
			return nil, fmt.Errorf("list guest images: %s: %w", e.Name(), err)
		}
		list = append(list, img)
	}
	slices.SortFunc(list, func(a, b *Image) int { return b.Created.Compare(a.Created) })
	return list, nil
}
