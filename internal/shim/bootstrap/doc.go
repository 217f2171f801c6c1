// Package bootstrap is the first conversation between containerd and a shim:
// the command line, what comes on standard input, the socket, and the answer
// on standard output in the form that this containerd reads.
//
// It owns that conversation and the start of the process that serves. What is
// served, and how a sandbox is cleaned up, is not its matter.
//
// Three forms of answer are in use. None of the daemons says which it wants;
// it follows from what it sends:
//
//	containerd   standard input of start   environment           answer
//	1.6          options, or nothing                             bare address
//	1.7 – 2.2    options, or nothing       MAX_SHIM_VERSION=2    JSON, version 2
//	from 2.3     BootstrapParams           MAX_SHIM_VERSION=2    BootstrapResult, version 3
package bootstrap
