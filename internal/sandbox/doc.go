// Package sandbox is the core: one virtual machine and the containers and
// processes in it.
//
// It owns their state machines, the order of the steps that start and stop
// them, and the promise that a failure at any step leaves nothing behind. It
// must not know who asks (containerd, the command line), build command lines,
// or speak QMP.
//
//	            Start                      VM ends, or Stop
//	created ───────────▶ running ─────────────────────────────▶ stopped
//	    │                                                          ▲
//	    └──────────────── Start fails, or Stop ────────────────────┘
//
// A process (the init of a container, or an exec) goes through
//
//	created ──Start──▶ running ◀──Pause/Resume──▶ paused
//	    │                 │                          │
//	    └──── exit ───────┴───────▶ stopped ◀────────┘
//
// Orders that callers rely on: a process counts as exited only after its
// output was handed over; execs of a container exit before its init does; an
// exit that happens before anybody asks is not lost.
package sandbox
