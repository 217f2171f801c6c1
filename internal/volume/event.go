package volume

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// parseEvents reads what the kernel has written: a header of four numbers, the
// last of which is how many bytes of a name follow.
func parseEvents(buffer []byte) []event {
	var all []event
	for len(buffer) >= unix.SizeofInotifyEvent {
		e := event{wd: int32(binary.NativeEndian.Uint32(buffer)), mask: binary.NativeEndian.Uint32(buffer[4:])}
		all = append(all, e)
		name := uint64(binary.NativeEndian.Uint32(buffer[12:]))
		buffer = buffer[unix.SizeofInotifyEvent:]
		if name > uint64(len(buffer)) {
			return all
		}
		buffer = buffer[name:]
	}
	return all
}
