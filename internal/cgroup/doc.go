// Package cgroup keeps the processes of one sandbox in one cgroup of the host:
// the sandbox process, the VMM, the file sharing daemon and whatever they start.
//
// It owns the cgroup's name, its limits, and its end, also after a crash. It
// works with version 1 and 2, with plain paths and with systemd's names. It must
// not know what the processes are for, nor reckon what they may use. What it
// does and why is in docs/design/cgroups.md.
package cgroup
