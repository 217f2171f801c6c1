// Package pool is the claimer's side of the warm pool: virtual machines that
// were restored from a template, rehearsed and stopped, and wait for a sandbox
// that takes one instead of making its own.
//
// A keeper (package keeper) owns them and listens on a socket of root's in the
// state directory. A machine is handed over as the files that it is held by.
// This package owns the messages, the place, and the start of a keeper. It must
// not know what a machine is made of, and must be in nobody's way: whatever goes
// wrong with a pool, a sandbox starts without it.
package pool
