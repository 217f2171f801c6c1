package layer

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Limits bounds what one image may ask of the host. Zero means no limit.
type Limits struct {
	// UnpackedBytes bounds the uncompressed layers of an image together.
	UnpackedBytes int64
	// FileBytes bounds the sum of all file sizes, holes of sparse files
	// included.
	FileBytes int64
	// Entries bounds the files, directories and links that layers name.
	Entries int64
	// MetadataBytes bounds the names, link targets and extended attributes,
	// which are held in memory.
	MetadataBytes int64
	// Ratio bounds how many times larger a layer may get by decompression.
	// It applies beyond the first GiB of a layer.
	Ratio int64
}

// DefaultLimits suits images of up to some tens of GiB.
func DefaultLimits() Limits {
	return Limits{
		UnpackedBytes: 32 << 30,
		FileBytes:     64 << 30,
		Entries:       2_000_000,
		MetadataBytes: 512 << 20,
		Ratio:         200,
	}
}

const ratioFree = 1 << 30

// LimitError says which limit an image went over.
type LimitError struct {
	// Option is the key of the limit in the
	// configuration.
	Option string
	// What was counted, as in "more than 5 entries".
	What  string
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("image has more than %d %s: over the limit %s (raise it in the configuration if you trust the image)",
		e.Limit, e.What, e.Option)
}

// Unwrap gives the error's class.
func (e *LimitError) Unwrap() error { return errdefs.ErrResourceExhausted }

// usage counts against Limits.
type usage struct {
	limits                             Limits
	unpacked, files, entries, metadata int64
}

func over(sum *int64, add, limit int64, option, what string) error {
	// Subtraction: the sum itself could overflow.
	if limit > 0 && add > limit-*sum {
		return &LimitError{Option: option, What: what, Limit: limit}
	}
	*sum += add
	return nil
}

func (u *usage) addUnpacked(n int64) error {
	return over(&u.unpacked, n, u.limits.UnpackedBytes, "storage.max_unpacked_gib", "bytes in its unpacked layers")
}

func (u *usage) addFile(n int64) error {
	return over(&u.files, n, u.limits.FileBytes, "storage.max_files_gib", "bytes in its files")
}

func (u *usage) addEntry(metadata int) error {
	if err := over(&u.entries, 1, u.limits.Entries, "storage.max_image_entries", "entries"); err != nil {
		return err
	}
	return over(&u.metadata, int64(metadata), u.limits.MetadataBytes, "storage.max_metadata_mib",
		"bytes of names and attributes")
}

func (u *usage) checkRatio(in, out int64) error {
	if u.limits.Ratio > 0 && out > ratioFree && out/u.limits.Ratio > in {
		return &LimitError{Option: "storage.max_unpack_ratio", What: "times its size when decompressed", Limit: u.limits.Ratio}
	}
	return nil
}
