package qemu

import "strings"

// escape makes s one value of a QEMU option: a comma would begin the next
// option, unless it is doubled.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// option joins "key=value" parts to one QEMU option. The values must have
// been escaped.
func option(parts ...string) string { return strings.Join(parts, ",") }
