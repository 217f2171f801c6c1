package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
)

const (
	// settleTime is how long changes are gathered before they are passed on: the
	// kubelet changes a volume in a dozen steps.
	settleTime = 20 * time.Millisecond
	// growth is how many times its limits a directory may become when it is
	// followed already.
	growth = 8
	// attempts is how often a directory is read that changes meanwhile.
	attempts = 20
	// applyTimeout bounds what the guest may take over a change.
	applyTimeout = 30 * time.Second
)

// events are those that tell of a change of a directory or what is in it.
const events = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_CREATE | unix.IN_DELETE |
	unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK

// Apply hands changes of the volume called name to the guest.
type Apply func(ctx context.Context, name string, changes []*agentapi.VolumeChange) error

// Follower follows directories of the host and passes on what changes in them.
type Follower struct {
	limits  Limits
	apply   Apply
	events  *os.File
	inotify int

	mu      sync.Mutex
	watched map[int32]*Volume
	all     []*Volume
}

// Volume is a directory that the guest has a copy of.
type Volume struct {
	// Name is that of the copy.
	Name string

	follower *Follower
	dir      string
	root     *os.Root
	owners   idmap.Map

	mu sync.Mutex
	// known is what the guest has, nil before it has anything.
	known listing
}

// NewFollower returns one that follows nothing yet. It takes one of the host's
// instances of inotify, of which there is a bounded number.
func NewFollower(limits Limits, apply Apply) (*Follower, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch volumes (the host's fs.inotify.max_user_instances bounds how many can): %w", err)
	}
	f := &Follower{limits: limits, apply: apply, inotify: fd, events: os.NewFile(uintptr(fd), "inotify"), watched: make(map[int32]*Volume)}
	go f.run()
	return f, nil
}

// Close ends it.
func (f *Follower) Close() error {
	err := f.events.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.all {
		err = errors.Join(err, v.root.Close())
	}
	f.all = nil
	return err
}

// Follow watches a directory from now on. An error says why no copy can be kept
// of it; the guest has none before Sync. In the copy, owners are mapped.
func (f *Follower) Follow(name, dir string, owners idmap.Map) (*Volume, error) {
	root, err := pin(dir)
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", dir, err)
	}
	v := &Volume{Name: name, follower: f, dir: dir, root: root, owners: owners}
	if _, err := scan(root, f.limits, false, f.watch(v)); err != nil {
		f.forget(v)
		return nil, errors.Join(fmt.Errorf("follow %s: %w", dir, err), root.Close())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, v)
	return v, nil
}

// pin opens a directory so that it stays the same one whatever becomes of its
// path, and without holding up those who unmount it.
func pin(dir string) (*os.Root, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// watch returns what has a directory of v watched, which is open.
func (f *Follower) watch(v *Volume) func(*os.File) error {
	return func(dir *os.File) error {
		wd, err := unix.InotifyAddWatch(f.inotify, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), events)
		if err != nil {
			return fmt.Errorf("watch it (the host's fs.inotify.max_user_watches bounds how many can): %w", err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watched[int32(wd)] = v
		return nil
	}
}

// forget ends the watching of v.
func (f *Follower) forget(v *Volume) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for wd, of := range f.watched {
		if of == v {
			_, _ = unix.InotifyRmWatch(f.inotify, uint32(wd))
			delete(f.watched, wd)
		}
	}
}

// run passes changes on until the follower is closed.
func (f *Follower) run() {
	buffer := make([]byte, 64<<10)
	for {
		n, err := f.events.Read(buffer)
		if err != nil {
			return
		}
		dirty := f.about(buffer[:n], nil)
		<-time.After(settleTime)
		// What has come meanwhile is seen by the same look.
		for n := f.drain(buffer); n > 0; n = f.drain(buffer) {
			dirty = f.about(buffer[:n], dirty)
		}
		for _, v := range dirty {
			if err := v.update(); err != nil {
				slog.Warn("volume is not as the host's", "volume", v.dir, "error", err)
			}
		}
	}
}

// drain reads what is there, if anything is.
func (f *Follower) drain(buffer []byte) int {
	n, err := unix.Read(f.inotify, buffer)
	if err != nil {
		return 0
	}
	return n
}

// about adds the volumes that events are about.
func (f *Follower) about(buffer []byte, dirty []*Volume) []*Volume {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range parseEvents(buffer) {
		if e.mask&unix.IN_Q_OVERFLOW != 0 {
			return slices.Clone(f.all)
		}
		v := f.watched[e.wd]
		if e.mask&unix.IN_IGNORED != 0 {
			delete(f.watched, e.wd)
		}
		if v != nil && !slices.Contains(dirty, v) {
			dirty = append(dirty, v)
		}
	}
	return dirty
}

// update brings the guest's copy up to date if it has one.
func (v *Volume) update() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), applyTimeout)
	defer cancel()
	return v.sync(ctx)
}

// Sync gives the guest its copy if it has none.
func (v *Volume) Sync(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known != nil {
		return nil
	}
	return v.sync(ctx)
}

// sync must be called with mu held.
func (v *Volume) sync(ctx context.Context) error {
	for range attempts {
		next, err := v.look()
		if err != nil {
			return err
		}
		missing, err := send(v.root, v.owners, steps(v.known, next), func(changes []*agentapi.VolumeChange) error {
			return v.follower.apply(ctx, v.Name, changes)
		})
		if err != nil {
			return err
		}
		for _, path := range missing {
			delete(next, path)
		}
		v.known = next
		if len(missing) == 0 {
			return nil
		}
	}
	return errRestless
}

// errRestless says that a directory is never the same twice.
var errRestless = errors.New("it changes faster than it can be read")

// look lists the directory until that gives the same twice: then nothing was
// half done in between.
func (v *Volume) look() (listing, error) {
	var last listing
	for range attempts {
		next, err := scan(v.root, v.follower.limits.times(growth), true, v.follower.watch(v))
		if err != nil {
			return nil, err
		}
		if maps.Equal(next, last) && next.complete() {
			return next, nil
		}
		last = next
	}
	return nil, errRestless
}

// event is one of the kernel's.
type event struct {
	wd   int32
	mask uint32
}
