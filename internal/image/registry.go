package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/image/reference"
)

// registrySource finds an image in a registry. Credentials are those of
// "docker login"; registries on this machine are spoken to by plain HTTP.
func registrySource(ctx context.Context, ref reference.Reference, want *ocispec.Platform) (*source, error) {
	n, err := name.ParseReference(ref.Name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	opts := []remote.Option{remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("dougong")}
	got, err := remote.Get(n, append(opts, remote.WithContext(ctx))...)
	if err != nil {
		return nil, registryError(err, n)
	}
	desc, manifest, err := resolve(ctx, got, want, n, opts)
	if err != nil {
		return nil, err
	}
	fetch := func(ctx context.Context, d ocispec.Descriptor) (openBlob, error) {
		return fetchBlob(n.Context().Digest(d.Digest.String()), append(opts, remote.WithContext(ctx)))
	}
	return &source{desc: desc, manifest: manifest, fetch: fetch}, nil
}

// resolve follows an index to the manifest of the wanted platform.
func resolve(ctx context.Context, got *remote.Descriptor, want *ocispec.Platform, n name.Reference, opts []remote.Option) (ocispec.Descriptor, []byte, error) {
	for range 4 {
		if !isIndex(string(got.MediaType)) {
			break
		}
		var index ocispec.Index
		if err := json.Unmarshal(got.Manifest, &index); err != nil {
			return ocispec.Descriptor{}, nil, fmt.Errorf("index: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		desc, err := pickPlatform(index.Manifests, want)
		if err != nil {
			return ocispec.Descriptor{}, nil, err
		}
		got, err = remote.Get(n.Context().Digest(desc.Digest.String()), append(opts, remote.WithContext(ctx))...)
		if err != nil {
			return ocispec.Descriptor{}, nil, registryError(err, n)
		}
	}
	return describeRemote(got)
}

func describeRemote(got *remote.Descriptor) (ocispec.Descriptor, []byte, error) {
	desc := ocispec.Descriptor{
		MediaType: string(got.MediaType), Size: int64(len(got.Manifest)), Digest: digest.Digest(got.Digest.String()),
	}
	if sum := digest.FromBytes(got.Manifest); desc.Digest.Algorithm() == digest.SHA256 && sum != desc.Digest {
		return desc, nil, fmt.Errorf("manifest is corrupt: its digest is %s, it must be %s: %w", sum, desc.Digest, errdefs.ErrDataLoss)
	}
	return desc, got.Manifest, nil
}

func fetchBlob(d name.Digest, opts []remote.Option) (io.ReadCloser, error) {
	l, err := remote.Layer(d, opts...)
	if err != nil {
		return nil, registryError(err, d)
	}
	r, err := l.Compressed()
	if err != nil {
		return nil, registryError(err, d)
	}
	return &remoteBlob{ReadCloser: r}, nil
}

// remoteBlob tells errors of the network from errors of the content.
type remoteBlob struct{ io.ReadCloser }

func (b *remoteBlob) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil || err == io.EOF { // readers give it bare
		return n, err
	}
	var class error = errdefs.ErrUnavailable
	if strings.Contains(err.Error(), "verifying") { // of the library's own check
		class = errdefs.ErrDataLoss
	}
	return n, fmt.Errorf("blob is corrupt or cut off: %w: %w", err, class)
}

// registryError says what a registry's answer means to a user.
func registryError(err error, n name.Reference) error {
	host := n.Context().RegistryStr()
	e, ok := errors.AsType[*transport.Error](err)
	if !ok {
		return fmt.Errorf("ask registry %s: %w: %w", host, err, errdefs.ErrUnavailable)
	}
	switch e.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("registry %s has no such image: %w: %w", host, err, errdefs.ErrNotFound)
	case http.StatusUnauthorized:
		return fmt.Errorf("registry %s has no such image or asks for a login (see \"docker login\"): %w: %w", host, err, errdefs.ErrUnauthenticated)
	case http.StatusForbidden:
		return fmt.Errorf("registry %s denies access: %w: %w", host, err, errdefs.ErrPermissionDenied)
	}
	return fmt.Errorf("ask registry %s: %w: %w", host, err, errdefs.ErrUnavailable)
}
