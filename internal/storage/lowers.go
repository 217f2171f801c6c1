package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// lowerOption begins the option of an overlay that lists its lower directories.
const lowerOption = "lowerdir="

// lowersOf are the lower directories that an option lists, nil where it is another.
func lowersOf(option string) []string {
	list, ok := strings.CutPrefix(option, lowerOption)
	if !ok {
		return nil
	}
	return strings.Split(list, ":")
}

// aboveLowers is the deepest directory that all lower directories of an overlay are
// in.
func aboveLowers(m Mount) (string, error) {
	at := slices.IndexFunc(m.Options, func(o string) bool { return lowersOf(o) != nil })
	if at < 0 {
		return "", fmt.Errorf("overlay: it has no lower directories: %w", errdefs.ErrInvalidArgument)
	}
	lowers := lowersOf(m.Options[at])
	above := filepath.Dir(lowers[0])
	for _, l := range lowers {
		if !filepath.IsAbs(l) || filepath.Clean(l) != l {
			return "", fmt.Errorf("overlay: the lower directory %q is no clean absolute path: %w", l, errdefs.ErrInvalidArgument)
		}
		for !strings.HasPrefix(l, above+"/") && above != "/" {
			above = filepath.Dir(above)
		}
	}
	if above == "/" {
		return "", fmt.Errorf("overlay: the lower directories %q have nothing in common: %w", lowers, errdefs.ErrInvalidArgument)
	}
	return above, nil
}

// lowersIn names the lower directories by an open file of what is above them.
func lowersIn(tree *os.File, options []string, above string) []string {
	named := slices.Clone(options)
	for i, o := range named {
		lowers := lowersOf(o)
		if lowers == nil {
			continue
		}
		for j, l := range lowers {
			lowers[j] = fmt.Sprintf("/proc/self/fd/%d%s", tree.Fd(), strings.TrimPrefix(l, above))
		}
		named[i] = lowerOption + strings.Join(lowers, ":")
	}
	return named
}

// maxOptions is how long the options of a mount may be: the kernel takes a page,
// which is less than the lower directories of an image with many layers need.
const maxOptions = 4095

// mountLong mounts an overlay whose options are too long, with shorter names.
func mountLong(target string, e Entry) error {
	above, err := aboveLowers(e.Mount)
	if err != nil {
		return err
	}
	fd, err := unix.Open(above, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: above, Err: err}
	}
	dir := os.NewFile(uintptr(fd), above)
	defer dir.Close()
	e.Mount.Options = lowersIn(dir, e.Mount.Options, above)
	if length := len(strings.Join(e.Mount.Options, ",")); length > maxOptions {
		return fmt.Errorf("overlay: its options have %d characters, and the kernel takes %d: %w", length, maxOptions, errdefs.ErrInvalidArgument)
	}
	return mountEntry(target, e)
}
