package record

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func newRoot(t *testing.T) Root {
	t.Helper()
	root, err := NewRoot(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func create(t *testing.T, r Root, rec Record) (Dir, *Lock) {
	t.Helper()
	d, lock, err := r.Create(rec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close() })
	return d, lock
}

func ids(t *testing.T, r Root) []string {
	t.Helper()
	dirs, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, d := range dirs {
		ids = append(ids, d.ID)
	}
	return ids
}

func TestCreateThenRead(t *testing.T) {
	r := newRoot(t)
	want := Record{ID: NewID(), Name: "web", Image: "busybox", Command: []string{"sh"}, Created: time.Now().UTC().Round(0), StopSignal: "SIGTERM"}
	d, _ := create(t, r, want)
	got, err := d.Record()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if _, err := d.Exit(); !errdefs.IsNotFound(err) {
		t.Errorf("exit before the end: %v, want not found", err)
	}
}

func TestNameIsUnique(t *testing.T) {
	r := newRoot(t)
	d, _ := create(t, r, Record{ID: NewID(), Name: "web"})
	_, _, err := r.Create(Record{ID: NewID(), Name: "web"})
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), "dougong rm web") {
		t.Fatalf("second container of the name: %v", err)
	}
	if got := ids(t, r); len(got) != 1 {
		t.Errorf("sandboxes after the refusal: %v", got)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	create(t, r, Record{ID: NewID(), Name: "web"})
}

func TestStaleNameIsFree(t *testing.T) {
	r := newRoot(t)
	d, _ := create(t, r, Record{ID: NewID(), Name: "web"})
	if err := os.RemoveAll(d.Path()); err != nil {
		t.Fatal(err)
	}
	create(t, r, Record{ID: NewID(), Name: "web"})
}

func TestBadNames(t *testing.T) {
	r := newRoot(t)
	for _, name := range []string{"", ".names", "-x", "a/b", "a b", strings.Repeat("a", 129)} {
		if _, _, err := r.Create(Record{ID: NewID(), Name: name}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("name %q: %v, want invalid argument", name, err)
		}
	}
	if got := ids(t, r); got != nil {
		t.Errorf("left behind: %v", got)
	}
}

func TestFind(t *testing.T) {
	r := newRoot(t)
	create(t, r, Record{ID: "aaaa1111", Name: "web"})
	create(t, r, Record{ID: "aaaa2222", Name: "db"})
	create(t, r, Record{ID: "bbbb3333", Name: "aaaa1"})
	tests := []struct {
		ref, want string
		is        func(error) bool
	}{
		{ref: "web", want: "aaaa1111"},
		{ref: "aaaa2222", want: "aaaa2222"},
		{ref: "aaaa2", want: "aaaa2222"},
		{ref: "aaaa1", want: "bbbb3333"}, // a name goes before the beginning of an id
		{ref: "aaaa", is: errdefs.IsInvalidArgument},
		{ref: "nobody", is: errdefs.IsNotFound},
		{ref: "", is: errdefs.IsNotFound},
		{ref: "../x", is: errdefs.IsNotFound},
	}
	for _, tt := range tests {
		d, err := r.Find(tt.ref)
		if tt.is != nil {
			if !tt.is(err) {
				t.Errorf("Find(%q) = %v", tt.ref, err)
			}
			continue
		}
		if err != nil || d.ID != tt.want {
			t.Errorf("Find(%q) = %q, %v, want %q", tt.ref, d.ID, err, tt.want)
		}
	}
}

func TestSweepLeavesTheLiving(t *testing.T) {
	r := newRoot(t)
	d, _ := create(t, r, Record{ID: "live", Name: "live", AutoRemove: true})
	if err := r.Sweep(); err != nil {
		t.Fatal(err)
	}
	if !d.Alive() {
		t.Error("the lock is held and the sandbox does not count as alive")
	}
	if got := ids(t, r); len(got) != 1 {
		t.Errorf("after the sweep: %v", got)
	}
}

func TestSweepOfTheDead(t *testing.T) {
	r := newRoot(t)
	gone, goneLock := create(t, r, Record{ID: "gone", Name: "gone", AutoRemove: true})
	kept, keptLock := create(t, r, Record{ID: "kept", Name: "kept"})
	ended, endedLock := create(t, r, Record{ID: "ended", Name: "ended"})
	if err := ended.WriteExit(Exit{Status: 3}); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Lock{goneLock, keptLock, endedLock} {
		_ = l.Close()
	}
	if err := r.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(gone.Path()); !os.IsNotExist(err) {
		t.Errorf("a dead sandbox that was to be removed is still there: %v", err)
	}
	if exit, err := kept.Exit(); err != nil || exit.Status != 255 || exit.Error == "" {
		t.Errorf("end of a killed sandbox: %+v, %v", exit, err)
	}
	if exit, err := ended.Exit(); err != nil || exit.Status != 3 {
		t.Errorf("end of an ended sandbox after the sweep: %+v, %v", exit, err)
	}
	create(t, r, Record{ID: "new", Name: "gone"})
}

func TestSweepOfTheUnfinished(t *testing.T) {
	r := newRoot(t)
	staged := func(name string, locked bool) string {
		path := filepath.Join(r.path, stagingPrefix+name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if locked {
			if err := os.WriteFile(filepath.Join(path, fileLock), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	dead, old, fresh := staged("dead", true), staged("old", false), staged("new", false)
	before := time.Now().Add(-2 * stagingTime)
	if err := os.Chtimes(old, before, before); err != nil {
		t.Fatal(err)
	}
	if err := r.Sweep(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dead, old} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s, of an unfinished sandbox: %v", path, err)
		}
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("a directory that is just being made: %v", err)
	}
}

// TestSweepWhileMaking has sandboxes made while others sweep all the time.
func TestSweepWhileMaking(t *testing.T) {
	r := newRoot(t)
	done := make(chan struct{})
	var sweepers sync.WaitGroup
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = r.Sweep()
				}
			}
		})
	}
	var makers sync.WaitGroup
	for i := range 4 {
		makers.Go(func() {
			for j := range 100 {
				id := fmt.Sprintf("a%d-%d", i, j)
				d, lock, err := r.Create(Record{ID: id, Name: id})
				if err != nil {
					t.Error(err)
					return
				}
				if !d.Alive() {
					t.Errorf("%s is not alive", id)
				}
				if err := d.Remove(); err != nil {
					t.Error(err)
				}
				_ = lock.Close()
			}
		})
	}
	makers.Wait()
	close(done)
	sweepers.Wait()
}

func TestFirstExitStays(t *testing.T) {
	r := newRoot(t)
	d, _ := create(t, r, Record{ID: "a", Name: "a"})
	for _, status := range []int{7, 9} {
		if err := d.WriteExit(Exit{Status: status}); err != nil {
			t.Fatal(err)
		}
	}
	if exit, err := d.Exit(); err != nil || exit.Status != 7 {
		t.Errorf("exit = %+v, %v, want the first", exit, err)
	}
}

func TestDamagedRecord(t *testing.T) {
	r := newRoot(t)
	d, lock := create(t, r, Record{ID: "a", Name: "a"})
	if err := os.WriteFile(filepath.Join(d.Path(), fileRecord), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Record(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged record: %v", err)
	}
	_ = lock.Close()
	if err := r.Sweep(); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, r); got != nil {
		t.Errorf("a dead sandbox without a readable record stays: %v", got)
	}
}
