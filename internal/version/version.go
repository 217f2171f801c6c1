// Package version says which build this is.
package version

import "runtime/debug"

// version is set at link time by the Makefile.
var version = ""

// String returns the version of the build: what the Makefile set, else what
// the Go toolchain knows of the module.
func String() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
