// Package reference reads the names by which people call images: registry
// references as Docker has them, and the transport notation of skopeo and
// Podman (docker://, oci:, oci-archive:, docker-archive:, dir:).
//
// It owns the notation alone and looks at neither network nor files.
package reference

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
)

// Transport is where an image comes from.
type Transport string

// The transports.
const (
	Registry      Transport = "docker"
	OCI           Transport = "oci"
	OCIArchive    Transport = "oci-archive"
	DockerArchive Transport = "docker-archive"
	Dir           Transport = "dir"
)

// Reference is a parsed image name.
type Reference struct {
	Transport Transport
	// Path is the absolute path of a local image; empty for a registry.
	Path string
	// Name is the full name in a registry, as docker.io/library/busybox:latest,
	// or what picks one of several images at a path. There it may be empty.
	Name string
}

// Transports of other tools, to say clearly that they are not known here.
var foreign = []string{
	"docker-daemon:", "containers-storage:", "ostree:", "sif:", "tarball:", "atomic:",
	"http://", "https://", "file://", "docker-archive://", "oci://",
}

// Parse reads a reference. Relative paths are taken from the working directory.
func Parse(s string) (Reference, error) {
	r, err := parse(s)
	if err != nil {
		return Reference{}, fmt.Errorf("image reference %.200q: %w: %w", s, err, errdefs.ErrInvalidArgument)
	}
	return r, nil
}

func parse(s string) (Reference, error) {
	if rest, ok := strings.CutPrefix(s, "docker://"); ok {
		return parseRegistry(rest)
	}
	for _, prefix := range foreign {
		if strings.HasPrefix(s, prefix) {
			return Reference{}, fmt.Errorf("transport %q is not supported (use one of docker://, oci:, oci-archive:, docker-archive:, dir:)", prefix)
		}
	}
	transport, rest, found := strings.Cut(s, ":")
	if !found {
		return parseRegistry(s)
	}
	switch t := Transport(transport); t {
	case Dir:
		return parsePath(t, rest, "")
	case OCI, OCIArchive, DockerArchive:
		path, tag, _ := strings.Cut(rest, ":")
		return parsePath(t, path, tag)
	}
	return parseRegistry(s)
}

func parsePath(t Transport, path, tag string) (Reference, error) {
	if path == "" {
		return Reference{}, fmt.Errorf("no path after %q", string(t)+":")
	}
	if strings.ContainsRune(path, 0) {
		return Reference{}, fmt.Errorf("path has a NUL byte")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return Reference{}, err
	}
	if t == DockerArchive && tag != "" {
		r, err := parseRegistry(tag)
		if err != nil {
			return Reference{}, err
		}
		tag = r.Name
	}
	if strings.ContainsFunc(tag, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return Reference{}, fmt.Errorf("tag %.100q has a space or control character", tag)
	}
	return Reference{Transport: t, Path: path, Name: tag}, nil
}

var host = regexp.MustCompile(`^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]+)?$`)

// The distribution specification's form of a repository's name.
var repository = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)

func parseRegistry(s string) (Reference, error) {
	if s == "" {
		return Reference{}, fmt.Errorf("is empty")
	}
	if lower := strings.ToLower(s); lower != s && repository.MatchString(lower) {
		return Reference{}, fmt.Errorf("a repository's name must be in lower case")
	}
	n, err := name.ParseReference(s, name.WeakValidation)
	if err != nil {
		return Reference{}, fmt.Errorf("is not of the form [REGISTRY/]NAME[:TAG][@DIGEST]")
	}
	if !host.MatchString(n.Context().RegistryStr()) {
		return Reference{}, fmt.Errorf("%q is no name of a registry", n.Context().RegistryStr())
	}
	if !repository.MatchString(n.Context().RepositoryStr()) {
		return Reference{}, fmt.Errorf("%q is no name of a repository", n.Context().RepositoryStr())
	}
	return Reference{Transport: Registry, Name: canonical(n)}, nil
}

// canonical gives Docker's own name of its registry, not the host it is on.
func canonical(n name.Reference) string {
	s := n.Name()
	if rest, ok := strings.CutPrefix(s, name.DefaultRegistry+"/"); ok {
		return "docker.io/" + rest
	}
	return s
}

// String gives the reference in full. A registry reference has no docker://.
func (r Reference) String() string {
	switch {
	case r.Transport == Registry:
		return r.Name
	case r.Name == "":
		return string(r.Transport) + ":" + r.Path
	}
	return string(r.Transport) + ":" + r.Path + ":" + r.Name
}

// Familiar shortens the name of an image for people, as Docker does: without
// docker.io, library and latest where they are implied.
func Familiar(full string) string {
	s, ok := strings.CutPrefix(full, "docker.io/")
	if !ok {
		return full
	}
	if rest, ok := strings.CutPrefix(s, "library/"); ok && !strings.Contains(rest, "/") {
		s = rest
	}
	return strings.TrimSuffix(s, ":latest")
}
