// Package bundle makes OCI bundles in the guest: a root file system assembled
// from disks and shares, small files, and the spec that the runtime takes.
//
// It owns the bundles' directories and the mounts below them. It must not
// start anything.
package bundle

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	agent "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/guest/account"
	"dougong.dev/dougong/internal/guest/mount"
	"dougong.dev/dougong/internal/idmap"
)

// mounter mounts one file system, and finds the disks for that.
type mounter interface {
	One(ctx context.Context, m *agent.Mount) error
	Disk(ctx context.Context, serial string) (string, error)
}

// Store holds the bundles of a guest.
type Store struct {
	// Prepare, when set, has the machine be ready for what a process may do.
	Prepare func(*specs.Process) error

	dir     string
	mounter mounter

	mu      sync.Mutex
	bundles map[string]*bundle
}

// bundle is what is to be undone, the latest last.
type bundle struct {
	dir    string
	mounts []string
}

// NewStore returns a store of bundles below dir.
func NewStore(dir string, m mounter) *Store {
	return &Store{dir: dir, mounter: m, bundles: make(map[string]*bundle)}
}

var validID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// Create makes a bundle and returns its path. On failure nothing of it stays.
func (s *Store) Create(ctx context.Context, r *agent.CreateBundleRequest) (string, error) {
	if !validID.MatchString(r.Id) {
		return "", fmt.Errorf("bundle id %q: %w", r.Id, errdefs.ErrInvalidArgument)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundles[r.Id] != nil {
		return "", fmt.Errorf("bundle %q: %w", r.Id, errdefs.ErrAlreadyExists)
	}
	b := &bundle{dir: filepath.Join(s.dir, r.Id)}
	if err := b.make(ctx, s.mounter, r, s.Prepare); err != nil {
		return "", errors.Join(fmt.Errorf("create bundle %q: %w", r.Id, err), b.remove())
	}
	s.bundles[r.Id] = b
	return b.dir, nil
}

// Delete unmounts and removes a bundle. One that is not there is no error.
func (s *Store) Delete(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bundles[id]
	if b == nil {
		return nil
	}
	if err := b.remove(); err != nil {
		return fmt.Errorf("delete bundle %q: %w", id, err)
	}
	delete(s.bundles, id)
	return nil
}

// Clear deletes every bundle.
func (s *Store) Clear() error {
	s.mu.Lock()
	var ids []string
	for id := range s.bundles {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	var errs []error
	for _, id := range ids {
		errs = append(errs, s.Delete(id))
	}
	return errors.Join(errs...)
}

// remove undoes make, as far as it came. Files are removed only when nothing
// is mounted among them.
func (b *bundle) remove() error {
	for len(b.mounts) > 0 {
		last := len(b.mounts) - 1
		if err := mount.Unmount(b.mounts[last]); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		b.mounts = b.mounts[:last]
	}
	return os.RemoveAll(b.dir)
}

func (b *bundle) path(name ...string) string {
	return filepath.Join(append([]string{b.dir}, name...)...)
}

func (b *bundle) make(ctx context.Context, m mounter, r *agent.CreateBundleRequest, prepare func(*specs.Process) error) error {
	spec, err := parse(r.Spec)
	if err == nil && prepare != nil {
		err = prepare(&spec.process)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.path("rootfs"), 0o711); err != nil {
		return err
	}
	if err := b.assemble(ctx, m, r.Rootfs); err != nil {
		return err
	}
	if err := enterAll(r.MountPoints); err != nil {
		return err
	}
	owners, err := spec.owners()
	if err != nil {
		return err
	}
	if err := b.files(r.Files, owners); err != nil {
		return err
	}
	if err := account.Apply(b.path("rootfs"), &spec.process); err != nil {
		return err
	}
	if err := spec.adaptDevices(ctx, m, r.Devices); err != nil {
		return err
	}
	if err := spec.adaptVolumes(b.path("rootfs"), owners); err != nil {
		return err
	}
	data, err := spec.encode()
	if err != nil {
		return err
	}
	return os.WriteFile(b.path("config.json"), data, 0o600)
}

// assemble makes the root file system out of its parts.
func (b *bundle) assemble(ctx context.Context, m mounter, r *agent.Rootfs) error {
	if r == nil || len(r.Lowers) == 0 {
		return fmt.Errorf("a root file system needs a lower one: %w", errdefs.ErrInvalidArgument)
	}
	if r.Writable == nil {
		if len(r.Lowers) > 1 {
			return fmt.Errorf("%d lower file systems need a writable layer: %w", len(r.Lowers), errdefs.ErrInvalidArgument)
		}
		return b.mount(ctx, m, r.Lowers[0], b.path("rootfs"))
	}
	var lowers []string
	for i, lower := range r.Lowers {
		target := b.path(fmt.Sprintf("l%d", i))
		if err := b.mount(ctx, m, lower, target); err != nil {
			return err
		}
		lowers = append(lowers, target)
	}
	if err := b.mount(ctx, m, r.Writable.Mount, b.path("w")); err != nil {
		return err
	}
	upper, work := b.path("w", cmp.Or(r.Writable.Upper, "upper")), b.path("w", cmp.Or(r.Writable.Work, "work"))
	if err := makeUpper(upper, work, lowers[0]); err != nil {
		return err
	}
	overlay := &agent.Mount{
		Type: "overlay", Source: "overlay",
		Options: append([]string{
			"lowerdir=" + strings.Join(lowers, ":"), "upperdir=" + upper, "workdir=" + work,
		}, r.Writable.Options...),
	}
	return b.mount(ctx, m, overlay, b.path("rootfs"))
}

func (b *bundle) mount(ctx context.Context, m mounter, one *agent.Mount, target string) error {
	if one == nil {
		return fmt.Errorf("mount on %s: nothing named: %w", target, errdefs.ErrInvalidArgument)
	}
	one = proto.CloneOf(one)
	one.Target = target
	if err := m.One(ctx, one); err != nil {
		return err
	}
	b.mounts = append(b.mounts, target)
	return nil
}

// makeUpper makes the overlay's directories. The upper one is the root
// directory that a container sees, so it is made to look like the image's.
func makeUpper(upper, work, lower string) error {
	var root syscall.Stat_t
	if err := syscall.Stat(lower, &root); err != nil {
		return fmt.Errorf("look at root directory %s: %w", lower, err)
	}
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(upper, 0o755); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil
		}
		return err
	}
	return errors.Join(os.Chown(upper, int(root.Uid), int(root.Gid)), syscall.Chmod(upper, root.Mode&0o7777))
}

// enterAll has the kernel mount what lies below directories of a share. It does
// so by itself when they are first used, but as read-only as what is above.
func enterAll(dirs []string) error {
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "enter mount point", Path: dir, Err: err}
		}
		_ = unix.Close(fd)
	}
	return nil
}

// files writes the files of a request. They belong to the container's root.
func (b *bundle) files(files []*agent.File, owners idmap.Map) error {
	uid, gid := owners.Owner(0, 0)
	if err := os.MkdirAll(b.path("files"), 0o711); err != nil {
		return err
	}
	for _, f := range files {
		if f.Name == "" || f.Name == "." || f.Name == ".." || strings.ContainsAny(f.Name, "/\x00") {
			return fmt.Errorf("file name %q: %w", f.Name, errdefs.ErrInvalidArgument)
		}
		path := b.path("files", f.Name)
		mode := os.FileMode(f.Mode & 0o7777)
		if mode == 0 {
			mode = 0o644
		}
		if err := os.WriteFile(path, f.Content, mode); err != nil {
			return err
		}
		// The umask must not have a say.
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
		if owners.IsZero() {
			continue
		}
		if err := os.Chown(path, int(uid), int(gid)); err != nil {
			return err
		}
	}
	return nil
}

// spec is the part of a request's spec that the guest has a say in, beside the
// rest as it came: to take all of it apart and to put it together again would
// be a tenth of the creation of a container in an emulated machine.
type spec struct {
	process specs.Process
	rest    map[string]json.RawMessage
}

// processField is where a spec has its process.
const processField = "process"

func parse(data []byte) (*spec, error) {
	s := &spec{}
	if err := json.Unmarshal(data, &s.rest); err != nil {
		return nil, fmt.Errorf("spec: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if process := s.rest[processField]; process != nil {
		if err := json.Unmarshal(process, &s.process); err != nil {
			return nil, fmt.Errorf("process of the spec: %w: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	if len(s.process.Args) == 0 {
		return nil, fmt.Errorf("the spec has no command: %w", errdefs.ErrInvalidArgument)
	}
	return s, nil
}

func (s *spec) encode() ([]byte, error) {
	process, err := json.Marshal(&s.process)
	if err == nil {
		s.rest[processField] = process
		var data []byte
		if data, err = json.Marshal(s.rest); err == nil {
			return data, nil
		}
	}
	return nil, fmt.Errorf("encode spec: %w", err)
}
