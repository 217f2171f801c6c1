// Package ocirun is what the OCI runtime's commands do: it starts a sandbox
// process for a bundle that somebody else made, and calls it afterwards.
//
// It owns the life of such a container as its caller sees it: process ids of
// the host, pid files, terminals handed over by a socket, states, hooks after
// the end. What happens in a sandbox happens in the sandbox process.
package ocirun
