// Package engine is what the commands of the small engine share: it starts
// the sandbox process of a container, calls its Task service, and connects a
// terminal or pipes to a process in it.
//
// It owns the caller's side only. Images come from package image, the state on
// disk from package record, and everything that happens in a sandbox happens in
// the sandbox process.
package engine
