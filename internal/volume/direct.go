package volume

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Direct is a file system on a block device, or in a file, of the host that the
// guest mounts by itself, in the place of a directory of the host.
type Direct struct {
	// Path is the directory that mounts of containers name for it.
	Path string `json:"path"`
	// Source is the block device or the file.
	Source string `json:"source"`
	// FSType is ext4 or xfs.
	FSType string `json:"fsType"`
	// Options are those of the mount.
	Options []string `json:"options,omitempty"`
	// ReadOnly opens the source, and mounts it, for reading alone.
	ReadOnly bool `json:"readOnly,omitempty"`
	// FSGroup is the group that the files are given to; 0 leaves them alone.
	FSGroup uint32 `json:"fsGroup,omitempty"`
}

// DirectDir is where those of a state directory are written down.
func DirectDir(state string) string { return filepath.Join(state, ".volumes") }

var (
	directTypes = []string{"ext4", "xfs"}
	// directOption is a flag, or a word with a plain value.
	directOption = regexp.MustCompile(`^[a-z][a-z0-9_]*(=[a-zA-Z0-9_.:-]*)?$`)
)

// validate makes paths clean, and refuses what could not be mounted.
func (d *Direct) validate() error {
	for what, path := range map[string]*string{"directory": &d.Path, "source": &d.Source} {
		if !filepath.IsAbs(*path) {
			return fmt.Errorf("volume: the %s %q is no absolute path: %w", what, *path, errdefs.ErrInvalidArgument)
		}
		*path = filepath.Clean(*path)
	}
	if !slices.Contains(directTypes, d.FSType) {
		return fmt.Errorf("volume %s: file system %q: want %s: %w", d.Path, d.FSType, strings.Join(directTypes, " or "), errdefs.ErrInvalidArgument)
	}
	for _, o := range d.Options {
		if !directOption.MatchString(o) {
			return fmt.Errorf("volume %s: mount option %q: %w", d.Path, o, errdefs.ErrInvalidArgument)
		}
	}
	info, err := os.Stat(d.Source)
	if err != nil {
		return fmt.Errorf("volume %s: %w", d.Path, err)
	}
	if mode := info.Mode(); !mode.IsRegular() && mode&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice {
		return fmt.Errorf("volume %s: %s is neither a block device nor a file: %w", d.Path, d.Source, errdefs.ErrInvalidArgument)
	}
	if info, err = os.Stat(d.Path); err != nil {
		return fmt.Errorf("volume: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("volume: %s is no directory: %w", d.Path, errdefs.ErrInvalidArgument)
	}
	return nil
}

func directFile(dir, path string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(path)))
	return filepath.Join(dir, hex.EncodeToString(sum[:])+".json")
}

// AddDirect writes a volume down. One that is there already is an error.
func AddDirect(dir string, d Direct) error {
	if err := d.validate(); err != nil {
		return err
	}
	data, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("volume %s: %w", d.Path, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("volume %s: %w", d.Path, err)
	}
	temp, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return fmt.Errorf("volume %s: %w", d.Path, err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Close()); err == nil {
		// Other than a rename, a link does not replace anything.
		err = os.Link(temp.Name(), directFile(dir, d.Path))
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("volume %s: %w", d.Path, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", d.Path, err)
	}
	return nil
}

// RemoveDirect forgets a volume. Who has it mounted keeps it.
func RemoveDirect(dir, path string) error {
	_ = os.Remove(statsSocket(dir, path))
	err := os.Remove(directFile(dir, path))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("volume %s: %w", path, errdefs.ErrNotFound)
	}
	return err
}

// FindDirect finds the volume of a directory, if it is one.
func FindDirect(dir, path string) (d Direct, ok bool, err error) {
	data, err := os.ReadFile(directFile(dir, path))
	if errors.Is(err, fs.ErrNotExist) {
		return d, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err == nil {
		err = d.validate()
	}
	if err != nil {
		return d, false, fmt.Errorf("what is written down of volume %s: %w", path, err)
	}
	return d, true, nil
}

// ListDirect lists the volumes that are written down, by their paths.
func ListDirect(dir string) ([]Direct, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	all := []Direct{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var d Direct
		if err == nil {
			err = json.Unmarshal(data, &d)
		}
		if err != nil {
			return nil, fmt.Errorf("list volumes: %s: %w", file, err)
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Direct) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}
