// Package container serves containerd's Task service in the guest: containers
// and their processes, run by crun.
//
// It owns the processes it starts, their exit statuses and their order: an
// exit is reported after the output was handed to the streams, exec exits
// before the exit of their container's init, and an early exit is never lost.
// It must not know how a bundle is made or who calls.
//
// A process goes one way:
//
//	created ──Start──▶ running ──exit, output drained──▶ stopped
//	   └────────killed, or could not be started────────────▲
package container
