// Package qemu turns a vmm.MachineSpec into a running QEMU and tells how it
// ended.
//
// It owns QEMU's command line (a pure function, see Args), the process with
// its privileges and namespaces, the ends of the machine's QMP, agent and
// console lines, the search for the binary, and the choice of the
// accelerator. It must not decide what a machine consists of, know what is
// spoken on the agent's line, or leave anything behind: every function that
// fails has released what it acquired, and a Machine that is done has too,
// but for the agent's line, which belongs to the caller.
package qemu
