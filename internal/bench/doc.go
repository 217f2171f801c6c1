// Package bench measures what SPECIFICATION.md promises: Dougong against a
// bare QEMU with the same kernel and initramfs, which is the floor, and
// against ordinary container runtimes, all in one run and in turns, so that
// what else the machine does hits all alike.
//
// It owns a temporary installation with a configuration, a store and a state
// of its own, and leaves nothing behind. It works from outside, by running the
// command, wherever a user would; only what no user sees it measures through
// the packages below. The sandbox process and the agent must not import it.
package bench
