package template

import (
	"fmt"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Source is a file, or a link, that a template was made of.
type Source struct {
	Path string `json:"path"`
	// Identity is another one when what is there was replaced or written to.
	Identity string `json:"identity"`
}

// identify notes what is at a path: of a link where it leads.
func identify(path string) (Source, error) {
	if target, err := os.Readlink(path); err == nil {
		return Source{path, target}, nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Source{}, fmt.Errorf("identify %s: %w", path, err)
	}
	return Source{path, fmt.Sprintf("%d:%d %d %d.%d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec)}, nil
}

func identifyAll(paths []string) (sources []Source, err error) {
	for _, path := range paths {
		s, err := identify(path)
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// DependOn names files or links on which all templates depend that are made from
// now on, beside those of their recipes.
func (s *Store) DependOn(paths ...string) { s.common = append(s.common, paths...) }

// stale returns the path of what has changed since the template was made, ""
// for one that may still be of use.
func (t *Template) stale() string {
	at := slices.IndexFunc(t.Sources, func(was Source) bool {
		is, err := identify(was.Path)
		return err != nil || is != was
	})
	if at < 0 {
		return ""
	}
	return t.Sources[at].Path
}

// dropStale removes templates that nobody will find again.
func (s *Store) dropStale() {
	list, err := s.List()
	if err != nil {
		return
	}
	for _, t := range list {
		changed := t.stale()
		if changed == "" {
			continue
		}
		slog.Info("template is stale and goes", "template", t.Key, "changed", changed)
		if err := s.Remove(t.Key); err != nil {
			slog.Warn("remove stale template", "template", t.Key, "error", err)
		}
	}
}
