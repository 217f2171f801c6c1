package erofs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	xattrHeader   = 12
	xattrValueMax = 1<<16 - 1
	xattrBodyMax  = (1<<16-2)*4 + xattrHeader
)

// The namespaces that EROFS knows; the last part of a name is stored as text.
var xattrPrefixes = []struct {
	prefix string
	index  byte
	exact  bool
}{
	{"user.", 1, false},
	{"system.posix_acl_access", 2, true},
	{"system.posix_acl_default", 3, true},
	{"trusted.", 4, false},
	{"security.", 6, false},
}

// XattrSupported tells whether EROFS can hold an attribute of this name.
func XattrSupported(name string) bool {
	_, _, ok := splitXattr(name)
	return ok
}

func splitXattr(name string) (index byte, suffix string, ok bool) {
	for _, p := range xattrPrefixes {
		suffix, found := strings.CutPrefix(name, p.prefix)
		if found && p.exact == (suffix == "") && len(name) <= NameMax {
			return p.index, suffix, true
		}
	}
	return 0, "", false
}

// encodeXattrs gives the attribute area that follows an inode, or nil.
func encodeXattrs(attrs map[string]string) ([]byte, error) {
	if len(attrs) == 0 {
		return nil, nil
	}
	b := make([]byte, xattrHeader)
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		value := attrs[name]
		index, suffix, ok := splitXattr(name)
		if !ok {
			return nil, fmt.Errorf("extended attribute %q: no such namespace in EROFS", name)
		}
		if len(value) > xattrValueMax {
			return nil, fmt.Errorf("extended attribute %q has %d bytes, more than Linux's %d", name, len(value), xattrValueMax)
		}
		b = append(b, byte(len(suffix)), index)
		b = le.AppendUint16(b, uint16(len(value)))
		b = append(append(b, suffix...), value...)
		b = append(b, make([]byte, roundUp(len(b), 4)-len(b))...)
	}
	if len(b) > xattrBodyMax {
		return nil, fmt.Errorf("extended attributes take %d bytes, more than EROFS's %d", len(b), xattrBodyMax)
	}
	return b, nil
}

func xattrCount(body []byte) uint16 {
	if len(body) == 0 {
		return 0
	}
	return uint16((len(body)-xattrHeader)/4 + 1)
}
