package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
)

// Duration is a time span written as "30s" or "2m".
type Duration time.Duration

// UnmarshalText reads the notation of time.ParseDuration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 30s", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the notation that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

var sizePattern = regexp.MustCompile(`^([1-9][0-9]?%|100%|[1-9][0-9]*[kmg]?)$`)

func (c *Config) validate() error {
	checks := []struct {
		ok   bool
		says string
	}{
		{slices.Contains([]string{"auto", "kvm", "tcg"}, c.VM.Accelerator), fmt.Sprintf("vm.accelerator %q: want auto, kvm or tcg", c.VM.Accelerator)},
		{c.VM.CPUs >= 1, fmt.Sprintf("vm.cpus %d: want at least 1", c.VM.CPUs)},
		{c.VM.MemoryMiB >= 1, fmt.Sprintf("vm.memory_mib %d: want at least 1", c.VM.MemoryMiB)},
		{c.VM.BootTimeout > 0, "vm.boot_timeout: want more than 0s"},
		{c.VM.StopTimeout > 0, "vm.stop_timeout: want more than 0s"},
		{c.VM.UIDBase >= 0 && c.VM.UIDBase <= 1<<31, fmt.Sprintf("vm.uid_base %d: want 0 to %d", c.VM.UIDBase, 1<<31)},
		{strings.HasPrefix(c.Storage.Root, "/"), fmt.Sprintf("storage.root %q: want an absolute path", c.Storage.Root)},
		{sizePattern.MatchString(c.Storage.WritableSize), fmt.Sprintf("storage.writable_size %q: want a size such as 256m or a share such as 50%%", c.Storage.WritableSize)},
		{c.Storage.MaxUnpackedGiB >= 1, "storage.max_unpacked_gib: want at least 1"},
		{c.Storage.MaxImageEntries >= 1, "storage.max_image_entries: want at least 1"},
		{slices.Contains([]string{"auto", "always", "none"}, c.Share.Cache), fmt.Sprintf("share.cache %q: want auto, always or none", c.Share.Cache)},
		{slices.Contains([]string{"user", "none"}, c.Network.Mode), fmt.Sprintf("network.mode %q: want user or none", c.Network.Mode)},
		{strings.HasPrefix(c.Runtime.State, "/"), fmt.Sprintf("runtime.state %q: want an absolute path", c.Runtime.State)},
	}
	var errs []error
	for _, check := range checks {
		if !check.ok {
			errs = append(errs, fmt.Errorf("%s: %w", check.says, errdefs.ErrInvalidArgument))
		}
	}
	for _, s := range c.Network.DNS {
		if _, err := netip.ParseAddr(s); err != nil {
			errs = append(errs, fmt.Errorf("network.dns %q: want an IP address: %w", s, errdefs.ErrInvalidArgument))
		}
	}
	return errors.Join(errs...)
}

// explain turns the parser's errors into what people need: the line, and for
// an unknown key the nearest known one.
func explain(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var errs []error
		for _, e := range strict.Errors {
			key := strings.Join(e.Key(), ".")
			line, _ := e.Position()
			errs = append(errs, fmt.Errorf("line %d: unknown key %q; did you mean %q? (see docs/configuration.md): %w", line, key, nearest(key), errdefs.ErrInvalidArgument))
		}
		return errors.Join(errs...)
	}
	var syntax *toml.DecodeError
	if errors.As(err, &syntax) {
		line, column := syntax.Position()
		return fmt.Errorf("line %d, column %d: %w: %w", line, column, err, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
}

// Key is one key of the configuration.
type Key struct {
	Name, Default, Doc string
}

// Keys lists every key in the order of the documentation.
func Keys() []Key {
	var keys []Key
	c := reflect.ValueOf(Default())
	for i := range c.NumField() {
		section, prefix := c.Field(i), c.Type().Field(i).Tag.Get("toml")
		for j := range section.NumField() {
			field := section.Type().Field(j)
			keys = append(keys, Key{
				Name:    prefix + "." + field.Tag.Get("toml"),
				Default: defaultText(section.Field(j)),
				Doc:     field.Tag.Get("doc"),
			})
		}
	}
	return keys
}

// defaultText writes a default as it would stand in the file.
func defaultText(v reflect.Value) string {
	data, err := toml.Marshal(map[string]any{"v": v.Interface()})
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(strings.TrimPrefix(string(data), "v = "))
	return strings.ReplaceAll(text, "'", `"`)
}

// nearest returns the known key with the least edit distance to key.
func nearest(key string) string {
	return slices.MinFunc(Keys(), func(a, b Key) int { return distance(key, a.Name) - distance(key, b.Name) }).Name
}

// distance is the Levenshtein distance of a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
