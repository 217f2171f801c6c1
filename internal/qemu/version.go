package qemu

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"

	"github.com/containerd/errdefs"
)

// binaryName is what is looked for in PATH.
const binaryName = "qemu-system-x86_64"

// Version is QEMU's version.
type Version struct{ Major, Minor, Micro int }

// MinVersion is the oldest QEMU that machines are built for.
var MinVersion = Version{7, 2, 0}

// String is the usual notation, such as 7.2.22.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// Less says that v is older than w.
func (v Version) Less(w Version) bool {
	if v.Major != w.Major {
		return v.Major < w.Major
	}
	if v.Minor != w.Minor {
		return v.Minor < w.Minor
	}
	return v.Micro < w.Micro
}

// FindBinary returns the absolute path of QEMU: path when it is set, else what
// PATH has.
func FindBinary(path string) (string, error) {
	name := path
	if name == "" {
		name = binaryName
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find QEMU: %w; install the package qemu-system-x86, or set its path in the configuration: %w", err, errdefs.ErrNotFound)
	}
	return found, nil
}

// QueryVersion runs a QEMU binary to learn its version, and refuses one older
// than MinVersion. The version is returned then too.
func QueryVersion(ctx context.Context, binary string) (Version, error) {
	cmd := exec.CommandContext(ctx, binary, "--version")
	cmd.Env = childEnv
	out, err := cmd.Output()
	if err != nil {
		return Version{}, fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	v, err := ParseVersion(out)
	if err != nil {
		return Version{}, fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	if v.Less(MinVersion) {
		return v, fmt.Errorf("%s is QEMU %s; install %d.%d or newer: %w", binary, v, MinVersion.Major, MinVersion.Minor, errdefs.ErrFailedPrecondition)
	}
	return v, nil
}

// versionPattern takes distributions' suffixes, and versions without a micro.
var versionPattern = regexp.MustCompile(`^QEMU emulator version (\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?`)

// ParseVersion reads the output of QEMU's --version.
func ParseVersion(out []byte) (Version, error) {
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		line, _, _ := bytes.Cut(out[:min(len(out), 80)], []byte("\n"))
		return Version{}, fmt.Errorf("%q is not what QEMU says", line)
	}
	var n [3]int
	for i := range n {
		// A missing micro is zero; the pattern leaves nothing else to refuse.
		n[i], _ = strconv.Atoi(string(m[i+1]))
	}
	return Version{n[0], n[1], n[2]}, nil
}
