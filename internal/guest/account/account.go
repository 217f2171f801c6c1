// Package account finds out who a container's process runs as, from the
// container's own /etc/passwd and /etc/group.
//
// It reads files of an image, which are hostile: no link leads out of the
// root file system, and sizes are bounded. It changes nothing.
package account

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxFile bounds /etc/passwd and /etc/group.
const maxFile = 16 << 20

// Apply resolves p.User.Username ("user", "user:group", "uid:gid" and
// mixtures), when it is set, in the root file system at root, and sets HOME
// when p has none. A user or group that is not there is an
// errdefs.ErrInvalidArgument.
func Apply(root string, p *specs.Process) error {
	passwd, err := read(root, "etc/passwd")
	if err != nil {
		return err
	}
	group, err := read(root, "etc/group")
	if err != nil {
		return err
	}
	name := p.User.Username
	if name == "" {
		name = fmt.Sprintf("%d:%d", p.User.UID, p.User.GID)
	}
	found, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		return fmt.Errorf("user %q: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	if p.User.Username != "" {
		set(&p.User, found)
	}
	if !hasEnv(p.Env, "HOME") {
		p.Env = append(p.Env, "HOME="+found.Home)
	}
	return nil
}

// set makes u the user found. Groups that the caller asked for stay, and the
// primary group is among them, so that dropping it cannot widen access.
func set(u *specs.User, found *user.ExecUser) {
	u.UID, u.GID = uint32(found.Uid), uint32(found.Gid)
	groups := []uint32{u.GID}
	for _, gid := range found.Sgids {
		groups = append(groups, uint32(gid))
	}
	for _, gid := range append(groups, u.AdditionalGids...) {
		if !slices.Contains(u.AdditionalGids, gid) {
			u.AdditionalGids = append(u.AdditionalGids, gid)
		}
	}
	u.Username = ""
}

func hasEnv(env []string, name string) bool {
	return slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, name+"=") })
}

// read returns a file below root, resolving links as the container would; ""
// when there is none.
func read(root, name string) (string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open root file system %q: %w", root, err)
	}
	defer func() { _ = unix.Close(dir) }()
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open /%s of the image: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	return readRegular(f, name)
}

func readRegular(f *os.File, name string) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read /%s of the image: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("/%s of the image is no regular file: %w", name, errdefs.ErrInvalidArgument)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("read /%s of the image: %w", name, err)
	}
	if len(data) > maxFile {
		return "", fmt.Errorf("/%s of the image is larger than %d bytes: %w", name, maxFile, errdefs.ErrInvalidArgument)
	}
	return string(data), nil
}
