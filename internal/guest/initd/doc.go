// Package initd is pid 1 of the guest: it makes the guest's file systems and
// loads its modules, starts the agent as its only child, reaps what is left
// over, and powers the VM off when the agent has ended.
//
// It owns nothing beyond that. The agent is an ordinary process, so that no
// reaper steals the exit status of the agent's own children.
package initd
