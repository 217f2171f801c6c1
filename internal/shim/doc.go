// Package shim is the sandbox process's front: it serves containerd's Task
// service for one sandbox, connects stdio, and ends the process when its work
// is done.
//
// It owns what callers see: requests, answers, errors, and the files behind
// stdio. What a sandbox is and how it starts belongs to package sandbox.
package shim
