package template

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// filePace has how long the latest starts took.
const filePace = "pace.json"

const (
	// paceKept is how many of the latest clones are remembered.
	paceKept = 9
	// paceWanted is how many of them it takes for a judgement.
	paceWanted = 5
)

// pace is what is known of starts of a template's kind of machine.
type pace struct {
	// Clones are how long the latest clones took.
	Clones []time.Duration `json:"clones"`
	// Boot is how long the latest boot took, 0 when there was none but the
	// template's own.
	Boot time.Duration `json:"boot,omitempty"`
}

// NoteClone remembers how long a clone took from its start until its guest
// answered. Of two that do so at the same time one may be lost.
func (t *Template) NoteClone(took time.Duration) {
	p := t.pace()
	p.Clones = append(p.Clones, took)
	p.Clones = p.Clones[max(0, len(p.Clones)-paceKept):]
	t.writePace(p)
}

// NoteBoot remembers how long a machine took that booted instead of being a
// clone.
func (t *Template) NoteBoot(took time.Duration) {
	p := t.pace()
	p.Boot = took
	t.writePace(p)
}

// BootInstead says whether the latest clones took longer than a boot, and how
// long the one in the middle and a boot do. Whoever is told so boots, and
// notes how long that took: on a busy machine everything takes longer, and
// then the next is a clone again. And one reading is forgotten each time, so
// that clones get another chance on any machine.
func (t *Template) BootInstead() (clone, boot time.Duration, yes bool) {
	p := t.pace()
	boot = p.Boot
	if boot <= 0 {
		// The template's own was longer than others are: it was prepared.
		boot = t.BootTook / 2
	}
	if len(p.Clones) < paceWanted || boot <= 0 {
		return 0, boot, false
	}
	clone = slices.Sorted(slices.Values(p.Clones))[len(p.Clones)/2]
	if clone <= boot {
		return clone, boot, false
	}
	p.Clones = p.Clones[1:]
	t.writePace(p)
	return clone, boot, true
}

func (t *Template) pace() pace {
	data, err := os.ReadFile(filepath.Join(t.dir, filePace))
	if err != nil {
		return pace{}
	}
	var p pace
	if err := json.Unmarshal(data, &p); err != nil {
		return pace{}
	}
	return p
}

// writePace replaces the readings. Nothing hangs on them but speed.
func (t *Template) writePace(p pace) {
	data, err := json.Marshal(p)
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
		slog.Debug("note how long a start took", "template", t.Key, "error", err)
		_ = os.Remove(f.Name())
	}
}
