package template

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// filePace has how long the latest clones took.
const filePace = "pace.json"

const (
	// paceKept is how many of the latest clones are remembered.
	paceKept = 9
	// paceWanted is how many of them it takes for a judgement.
	paceWanted = 5
)

// NoteClone remembers how long a clone took from its start until its guest
// answered. Of two that do so at the same time one may be lost.
func (t *Template) NoteClone(took time.Duration) {
	pace := append(t.pace(), took)
	t.writePace(pace[max(0, len(pace)-paceKept):])
}

// SlowerThanBoot says whether the latest clones took longer than a boot, and
// how long the one in the middle did. Whoever is told so boots instead; each
// time one of the readings is forgotten, so that clones get another chance.
func (t *Template) SlowerThanBoot() (clone time.Duration, slower bool) {
	pace := t.pace()
	if len(pace) < paceWanted || t.BootTook <= 0 {
		return 0, false
	}
	clone = slices.Sorted(slices.Values(pace))[len(pace)/2]
	if clone <= t.BootTook {
		return clone, false
	}
	t.writePace(pace[1:])
	return clone, true
}

func (t *Template) pace() []time.Duration {
	data, err := os.ReadFile(filepath.Join(t.dir, filePace))
	if err != nil {
		return nil
	}
	var pace []time.Duration
	if err := json.Unmarshal(data, &pace); err != nil {
		return nil
	}
	return pace
}

// writePace replaces the readings. Nothing hangs on them but speed.
func (t *Template) writePace(pace []time.Duration) {
	data, err := json.Marshal(pace)
	if err != nil {
		return
	}
	f, err := os.CreateTemp(t.dir, ".pace-")
	if err != nil {
		// The template was removed meanwhile.
		return
	}
	_, err = f.Write(data)
	_ = f.Close()
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(t.dir, filePace))
	}
	if err != nil {
		slog.Debug("note how long a clone took", "template", t.Key, "error", err)
		_ = os.Remove(f.Name())
	}
}
