// Package qmp is a client of QEMU's machine protocol: commands, their typed
// errors, and events, over a connection that somebody else made.
//
// It owns the framing, the matching of replies to commands and the fan-out of
// events. It must not start processes or know what a command means, and it
// does not trust its peer: a guest that took over QEMU can send anything, so
// the size of a message and the events that wait for a reader are bounded.
package qmp
