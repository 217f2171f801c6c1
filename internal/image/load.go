package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/reference"
)

// Load adds all images of an archive of "docker save" or of an OCI layout
// (plain, gzip or zstd), under the names that they have there.
func (s *Store) Load(ctx context.Context, path string, opts PullOptions) ([]*Image, error) {
	images, err := s.loadAll(ctx, path, opts)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, explain(err, s.root))
	}
	return images, nil
}

func (s *Store) loadAll(ctx context.Context, path string, opts PullOptions) ([]*Image, error) {
	want, err := parsePlatform(opts.Platform)
	if err != nil {
		return nil, err
	}
	l, err := waitLock(ctx, s.path("locks/gc"), unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	images, err := s.loadLocked(ctx, path, want, &progress{call: opts.Progress})
	l.release()
	s.tryCollect()
	return images, err
}

func (s *Store) loadLocked(ctx context.Context, path string, want *ocispec.Platform, p *progress) ([]*Image, error) {
	a, err := s.openArchive(ctx, path)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	sources, err := s.loadSources(ctx, a, want)
	if err != nil {
		return nil, err
	}
	var images []*Image
	for _, src := range sources {
		img, err := s.install(ctx, src, want, p)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", src.ref, err)
		}
		images = append(images, img)
	}
	return images, nil
}

// loadSources lists what an archive holds. Docker's newer archives are layouts
// too, but only its own manifest has all names.
func (s *Store) loadSources(ctx context.Context, a *archive, want *ocispec.Platform) ([]*source, error) {
	if _, ok := a.members["/manifest.json"]; ok {
		return s.dockerSources(ctx, a)
	}
	if _, ok := a.members["/index.json"]; !ok {
		return nil, fmt.Errorf("it has neither manifest.json nor index.json, so it is no image: %w", errdefs.ErrInvalidArgument)
	}
	index, err := readLayoutIndex(a)
	if err != nil {
		return nil, err
	}
	var sources []*source
	for _, desc := range index.Manifests {
		src, err := manifestSource(a, desc, want)
		if errors.Is(err, errdefs.ErrNotFound) && len(index.Manifests) > 1 {
			continue // of another platform
		}
		if err != nil {
			return nil, err
		}
		src.ref = nameOf(desc, a.name)
		sources = append(sources, src)
	}
	return sources, nil
}

func (s *Store) dockerSources(ctx context.Context, a *archive) ([]*source, error) {
	list, err := dockerManifests(a)
	if err != nil {
		return nil, err
	}
	var sources []*source
	for _, d := range list {
		src, err := s.dockerSource(ctx, a, d)
		if err != nil {
			return nil, err
		}
		for _, tag := range d.RepoTags {
			named := *src
			if named.ref, err = registryName(tag); err != nil {
				return nil, err
			}
			sources = append(sources, &named)
		}
		if len(d.RepoTags) == 0 {
			src.ref = localName(a.name, "latest")
			sources = append(sources, src)
		}
	}
	return sources, nil
}

func registryName(text string) (string, error) {
	ref, err := reference.Parse("docker://" + text)
	return ref.Name, err
}

// nameOf gives an image of a layout its name in the store.
func nameOf(desc ocispec.Descriptor, archive string) string {
	if full, err := registryName(desc.Annotations[fullNameKey]); err == nil {
		return full
	}
	tag := refName(desc)
	if strings.ContainsAny(tag, "/:") {
		if full, err := registryName(tag); err == nil {
			return full
		}
	}
	if tag == "" {
		tag = "latest"
	}
	return localName(archive, tag)
}

// localName makes a name from an archive's, as localhost/rootfs:v1.
func localName(archive, tag string) string {
	base := filepath.Base(archive)
	for _, ext := range []string{".gz", ".tgz", ".zst", ".tar"} {
		base = strings.TrimSuffix(base, ext)
	}
	if full, err := registryName("localhost/" + strings.ToLower(base) + ":" + tag); err == nil {
		return full
	}
	return "localhost/image:latest"
}
