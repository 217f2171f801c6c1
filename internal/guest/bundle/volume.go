package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/idmap"
)

const (
	// mountsField is where a spec has its mounts.
	mountsField = "mounts"
	// copyUp is crun's option for a tmpfs that begins with what the image has
	// in its place, as volumes do.
	copyUp = "tmpcopyup"
	// volumeMode is that of a volume that the image has no directory for.
	volumeMode = "mode=0755"
)

// adaptVolumes gives the top directories of volumes the owners and modes that
// the image has in their place: crun copies what is in them, but not those.
func (s *spec) adaptVolumes(root string, owners idmap.Map) error {
	raw := s.rest[mountsField]
	if !bytes.Contains(raw, []byte(copyUp)) {
		return nil
	}
	var mounts []specs.Mount
	if err := json.Unmarshal(raw, &mounts); err != nil {
		return fmt.Errorf("mounts of the spec: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	for i := range mounts {
		m := &mounts[i]
		if m.Type != "tmpfs" || !slices.Contains(m.Options, copyUp) {
			continue
		}
		like, err := topDirectory(root, m.Destination, owners)
		if err != nil {
			return fmt.Errorf("volume %s: %w", m.Destination, err)
		}
		// Before the others, so that what was asked for has the last word.
		m.Options = slices.Concat(like, m.Options)
	}
	changed, err := json.Marshal(mounts)
	if err != nil {
		return fmt.Errorf("encode mounts of the spec: %w", err)
	}
	s.rest[mountsField] = changed
	return nil
}

// topDirectory returns options of tmpfs for the directory that the image has
// at a path, resolving links as the container would.
func topDirectory(root, path string, owners idmap.Map) ([]string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer func() { _ = unix.Close(dir) }()
	fd, err := unix.Openat2(dir, strings.TrimLeft(path, "/"), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) {
		return []string{volumeMode}, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, fmt.Errorf("the image has something else than a directory there: %w", errdefs.ErrInvalidArgument)
	}
	return append([]string{fmt.Sprintf("mode=%04o", st.Mode&0o7777)}, ownerOptions(st.Uid, st.Gid, owners)...), nil
}

// ownerOptions name owners as the container's user namespace does, in which the
// volume is mounted. What has no name there belongs to its root.
func ownerOptions(uid, gid uint32, owners idmap.Map) []string {
	if owners.IsZero() {
		return []string{fmt.Sprintf("uid=%d", uid), fmt.Sprintf("gid=%d", gid)}
	}
	var options []string
	inUID, inGID := owners.Back().Owner(uid, gid)
	outUID, outGID := owners.Owner(inUID, inGID)
	if outUID == uid && uid != idmap.Nobody {
		options = append(options, fmt.Sprintf("uid=%d", inUID))
	}
	if outGID == gid && gid != idmap.Nobody {
		options = append(options, fmt.Sprintf("gid=%d", inGID))
	}
	return options
}
