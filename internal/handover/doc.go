// Package handover passes open files from a command to a sandbox process, which
// finds them by a token that a request of the Task service then names.
//
// It owns the socket's protocol and the files until somebody takes them. What
// the files are for is its callers' matter.
package handover
