package image

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/reference"
)

// Policy tells when to ask the source of an image.
type Policy string

// The policies, as Docker's --pull has them. Local layouts and archives are
// always looked at unless the policy is PullNever: that costs little.
const (
	PullMissing Policy = "missing"
	PullAlways  Policy = "always"
	PullNever   Policy = "never"
)

// PullOptions is how to pull. The zero value pulls what is missing for this
// machine's platform.
type PullOptions struct {
	// Platform as OS/ARCH[/VARIANT]. Empty is Linux on this machine's CPU.
	Platform string
	Policy   Policy
	// Progress is called often, but never twice at a time.
	Progress func(Event)
}

// layersAtOnce is how many layers are fetched at a time, as Docker does.
const layersAtOnce = 3

// source is an image where it comes from.
type source struct {
	ref      string
	stamp    string
	desc     ocispec.Descriptor // of the manifest
	manifest []byte
	// fetch opens a blob. It need not verify it.
	fetch func(ctx context.Context, desc ocispec.Descriptor) (openBlob, error)
}

// Pull makes an image ready to run: in the store, verified, and flattened. A
// dir: reference is checked and returned, never stored.
func (s *Store) Pull(ctx context.Context, ref reference.Reference, opts PullOptions) (*Image, error) {
	img, err := s.pull(ctx, ref, opts)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", reference.Familiar(ref.String()), explain(err, s.root))
	}
	return img, nil
}

func (s *Store) pull(ctx context.Context, ref reference.Reference, opts PullOptions) (*Image, error) {
	if ref.Transport == reference.Dir {
		return dirImage(ref)
	}
	want, err := parsePlatform(opts.Platform)
	if err != nil {
		return nil, err
	}
	p := &progress{call: opts.Progress}
	switch opts.Policy {
	case PullNever:
		return s.stored(ctx, ref, want, p)
	case PullAlways:
	case PullMissing, "":
		img, err := s.stored(ctx, ref, want, p)
		if err == nil && s.fresh(ref, img) {
			return img, nil
		}
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("pull policy %q is none of missing, always, never: %w", opts.Policy, errdefs.ErrInvalidArgument)
	}
	return s.fetch(ctx, ref, want, p)
}

// stored gives an image that is in the store and for the wanted platform.
func (s *Store) stored(ctx context.Context, ref reference.Reference, want *ocispec.Platform, p *progress) (*Image, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	for _, desc := range index.Manifests {
		if refName(desc) != ref.String() {
			continue
		}
		img, err := s.load(desc)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errdefs.ErrDataLoss) {
			break // a damaged store is mended by pulling again
		}
		if err != nil {
			return nil, err
		}
		if err := checkPlatform(img, want); err != nil {
			return nil, err
		}
		return img, s.complete(ctx, img, p)
	}
	return nil, fmt.Errorf("is not in the store: %w", errdefs.ErrNotFound)
}

// complete makes the EROFS file again where it is missing, as after an upgrade.
func (s *Store) complete(ctx context.Context, img *Image, p *progress) error {
	if exists(img.RootFS) {
		return nil
	}
	l, err := waitLock(ctx, s.path("locks/gc"), unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer l.release()
	err = s.convert(ctx, img, p)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errdefs.ErrDataLoss) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	s.locate(img)
	return err
}

// fetch gets an image from its source.
func (s *Store) fetch(ctx context.Context, ref reference.Reference, want *ocispec.Platform, p *progress) (*Image, error) {
	l, err := waitLock(ctx, s.path("locks/gc"), unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	img, err := s.fetchLocked(ctx, ref, want, p)
	l.release()
	// Complete layers may serve the next try, unless the image itself is bad.
	if err == nil || ctx.Err() == nil && !errors.Is(err, errdefs.ErrUnavailable) {
		s.tryCollect()
	}
	return img, err
}

func (s *Store) fetchLocked(ctx context.Context, ref reference.Reference, want *ocispec.Platform, p *progress) (*Image, error) {
	src, release, err := s.source(ctx, ref, want)
	if err != nil {
		return nil, err
	}
	defer release()
	src.ref = ref.String()
	return s.install(ctx, src, want, p)
}

// install copies an image into the store, flattens it, and names it last.
func (s *Store) install(ctx context.Context, src *source, want *ocispec.Platform, p *progress) (*Image, error) {
	m, err := parseManifest(src.manifest)
	if err != nil {
		return nil, err
	}
	img, err := s.config(ctx, src, m)
	if err != nil {
		return nil, err
	}
	if err := checkPlatform(img, want); err != nil {
		return nil, err
	}
	if err := s.layers(ctx, src, m.Layers, p); err != nil {
		return nil, err
	}
	if err := s.convert(ctx, img, p); err != nil {
		return nil, err
	}
	if err := s.putBlob(ctx, src.desc, bytesOpener(src.manifest), nil); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := s.setRef(ctx, src.ref, src.stamp, src.desc); err != nil {
		return nil, err
	}
	img.Ref = src.ref
	s.locate(img)
	return img, nil
}

func (s *Store) config(ctx context.Context, src *source, m *ocispec.Manifest) (*Image, error) {
	if m.Config.Size > maxDocument {
		return nil, fmt.Errorf("configuration has %d bytes, more than %d: %w", m.Config.Size, maxDocument, errdefs.ErrResourceExhausted)
	}
	if err := s.putBlob(ctx, m.Config, src.opener(m.Config), nil); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	b, err := s.readBlob(m.Config)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	return newImage(src.desc, m, b)
}

func (s *Store) layers(ctx context.Context, src *source, layers []ocispec.Descriptor, p *progress) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(layersAtOnce)
	for i, desc := range layers {
		group.Go(func() error {
			note := p.layer(StepFetch, desc)
			if err := s.putBlob(ctx, desc, src.opener(desc), note); err != nil {
				return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(layers), desc.Digest, err)
			}
			if note != nil {
				note(desc.Size)
			}
			return nil
		})
	}
	return group.Wait()
}

func dirImage(ref reference.Reference) (*Image, error) {
	info, err := os.Stat(ref.Path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
		}
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory: %w", ref.Path, errdefs.ErrInvalidArgument)
	}
	return &Image{Ref: ref.String(), Dir: ref.Path}, nil
}
