// Package idmap shows files under other owners than those they have: what belongs
// to 0 in a directory of the host then belongs to the first id of a user namespace
// in the guest.
//
// It owns mappings of ids and the kernel's id-mapped mounts. What is mapped, and
// for whom, is not its matter.
package idmap

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Map maps the users and groups that files belong to, to those that they are shown
// to belong to. The zero Map changes nothing, and Maps that are equal do the same.
//
// Both are lines as containerd writes them, with commas between: the first id that
// files have, the first that is shown, and how many, as in "0:100000:65536".
type Map struct{ UIDs, GIDs string }

// Line is a range of ids, from the first to the first.
type Line struct{ From, To, Count uint32 }

// Nobody stands for all ids that a Map says nothing about, as it does for the
// kernel.
const Nobody = 65534

// Of is the Map of mappings as the runtime specification has them.
func Of(uids, gids []specs.LinuxIDMapping) (Map, error) {
	return Parse(format(uids), format(gids))
}

func format(mappings []specs.LinuxIDMapping) string {
	var lines []string
	for _, m := range mappings {
		lines = append(lines, fmt.Sprintf("%d:%d:%d", m.ContainerID, m.HostID, m.Size))
	}
	return strings.Join(lines, ",")
}

// Parse reads mappings of users and groups, of which there are both or none.
func Parse(uids, gids string) (Map, error) {
	if uids == "" && gids == "" {
		return Map{}, nil
	}
	for what, lines := range map[string]string{"users": uids, "groups": gids} {
		if _, err := parse(lines); err != nil {
			return Map{}, fmt.Errorf("mapping of %s: %w", what, err)
		}
	}
	return Map{UIDs: uids, GIDs: gids}, nil
}

// parse reads lines, of which there must be one.
func parse(text string) ([]Line, error) {
	var lines []Line
	for line := range strings.SplitSeq(text, ",") {
		var numbers []uint32
		for number := range strings.SplitSeq(line, ":") {
			n, err := strconv.ParseUint(number, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("%q is not of the form ID:ID:COUNT: %w", line, errdefs.ErrInvalidArgument)
			}
			numbers = append(numbers, uint32(n))
		}
		if len(numbers) != 3 {
			return nil, fmt.Errorf("%q is not of the form ID:ID:COUNT: %w", line, errdefs.ErrInvalidArgument)
		}
		l := Line{From: numbers[0], To: numbers[1], Count: numbers[2]}
		if l.Count == 0 || l.Count > ^max(l.From, l.To) {
			return nil, fmt.Errorf("%q maps no ids, or more than there are: %w", line, errdefs.ErrInvalidArgument)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// IsZero reports whether m changes nothing.
func (m Map) IsZero() bool { return m == Map{} }

// Lines are the ranges of users and groups.
func (m Map) Lines() (uids, gids []Line) {
	if m.IsZero() {
		return nil, nil
	}
	// What does not parse has not come by Of or Parse, and maps nothing.
	uids, _ = parse(m.UIDs)
	gids, _ = parse(m.GIDs)
	return uids, gids
}

// Owner is how the owner of a file is shown.
func (m Map) Owner(uid, gid uint32) (shownUID, shownGID uint32) {
	if m.IsZero() {
		return uid, gid
	}
	uids, gids := m.Lines()
	return find(uids, uid), find(gids, gid)
}

func find(lines []Line, id uint32) uint32 {
	for _, l := range lines {
		if id >= l.From && id-l.From < l.Count {
			return l.To + (id - l.From)
		}
	}
	return Nobody
}

// Back is the Map the other way round.
func (m Map) Back() Map {
	uids, gids := m.Lines()
	return Map{UIDs: back(uids), GIDs: back(gids)}
}

func back(lines []Line) string {
	var texts []string
	for _, l := range lines {
		texts = append(texts, fmt.Sprintf("%d:%d:%d", l.To, l.From, l.Count))
	}
	return strings.Join(texts, ",")
}

// String is for messages.
func (m Map) String() string {
	return "users " + cmp.Or(m.UIDs, "as they are") + ", groups " + cmp.Or(m.GIDs, "as they are")
}
