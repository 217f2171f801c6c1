// Package seccomp turns the seccomp profile of an OCI spec into the program
// that the kernel runs.
//
// The guest's container runtime could do that too, by libseccomp, and did: a
// fifth of the time in which it creates a container in an emulated machine,
// for a program that asks for one system call after the other. The one made
// here is a search tree and half as long.
//
// It owns the translation only: which profile a container gets, and who loads
// it, is for others. A profile that it does not take must be left to the
// runtime as it is; see ErrUnsupported.
package seccomp
