package container

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// childInfo is struct siginfo as waitid(2) fills it on 64-bit Linux.
type childInfo struct {
	_   [3]int32
	_   int32
	pid int32
}

// siginfoPid is the process that info is about; 0 is none.
func siginfoPid(info *unix.Siginfo) int {
	return int((*childInfo)(unsafe.Pointer(info)).pid)
}
