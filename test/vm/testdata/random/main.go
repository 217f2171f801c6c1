// Command random prints what a Go program takes for random, by every way that
// it has: a line NAME=HEX for each.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	randv2 "math/rand/v2"
	"os"
	"slices"
	"syscall"
	"unsafe"
)

func main() {
	var direct, library [16]byte
	if n, _, errno := syscall.RawSyscall(318, uintptr(unsafe.Pointer(&direct[0])), uintptr(len(direct)), 0); errno != 0 || int(n) != len(direct) {
		fmt.Fprintln(os.Stderr, "getrandom:", n, errno)
		os.Exit(1)
	}
	fmt.Printf("getrandom=%x\n", direct)
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(library[:])
	library[6], library[8] = library[6]&0x0f|0x40, library[8]&0x3f|0x80
	fmt.Printf("go-uuid=%x-%x-%x-%x-%x\n", library[:4], library[4:6], library[6:8], library[8:10], library[10:])
	// Seeded by the runtime from what the kernel gives every program.
	fmt.Printf("go-runtime=%x\n", randv2.Uint64())
	fmt.Printf("go-hash=%x\n", maphash.String(maphash.MakeSeed(), "the same"))
	fmt.Printf("at-random=%x\n", auxiliary())
}

// atRandom marks the 16 random bytes that the kernel gives every program,
// for stack canaries and the like.
const atRandom = 25

func auxiliary() []byte {
	data, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for pair := range slices.Chunk(data, 16) {
		if binary.NativeEndian.Uint64(pair) == atRandom {
			return memory(binary.NativeEndian.Uint64(pair[8:]))
		}
	}
	return nil
}

// memory reads this process's own memory.
func memory(at uint64) []byte {
	f, err := os.Open("/proc/self/mem")
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, 16)
	if _, err := f.ReadAt(b, int64(at)); err != nil {
		return nil
	}
	return b
}
