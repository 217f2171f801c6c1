// Package volume knows which of the host's directories are volumes of the
// kubelet, and follows those that the guest has a copy of: it reads what is in
// them, watches them, and says what has changed since.
//
// It reads directories of the host whose content may be anybody's: it never
// follows a link in one, nor opens what is not a plain file. It must not know how
// the changes reach the guest.
package volume

import (
	"regexp"
)

// Kind is what a directory of the kubelet's holds.
type Kind string

// The kinds that are told apart.
const (
	// Other is any other path.
	Other Kind = ""
	// Published are volumes that the kubelet writes and a pod reads: ConfigMaps,
	// Secrets, the downward API, and what is projected from these.
	Published Kind = "published"
	// Empty are directories that are made for a pod and go with it.
	Empty Kind = "empty-dir"
)

// kubeletPath is where the kubelet has a volume, whatever its own directory is.
var kubeletPath = regexp.MustCompile(`^/(?:.+/)?pods/([^/]+)/volumes/kubernetes\.io~(configmap|secret|projected|downward-api|empty-dir)/([^/]+)/?$`)

// KindOf tells the kind by the path.
func KindOf(path string) Kind {
	switch parts := kubeletPath.FindStringSubmatch(path); {
	case parts == nil:
		return Other
	case parts[2] == "empty-dir":
		return Empty
	default:
		return Published
	}
}

// subPath is where the kubelet binds a part of a volume for a container.
var subPath = regexp.MustCompile(`^(/(?:.+/)?pods/[^/]+)/volume-subpaths/([^/]+)/[^/]+/\d+/?$`)

// EmptyOfSubPath is the path that the volume which a sub path is of would have
// as an empty directory; "" where path is no sub path.
func EmptyOfSubPath(path string) string {
	parts := subPath.FindStringSubmatch(path)
	if parts == nil {
		return ""
	}
	return parts[1] + "/volumes/kubernetes.io~empty-dir/" + parts[2]
}
