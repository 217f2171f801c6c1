// Package template keeps saved machines on disk: the memory and the device
// state of a guest that has booted and waits for its first word, from which
// clones start in a fraction of the time of a boot.
//
// It owns the files, who may make them at a time, what of them is still good,
// and how a clone gets its memory from them. How a machine is booted, saved
// and cloned is not its matter.
package template
