// Package qmptest plays QEMU's side of QMP for tests: a server whose answers
// the test writes.
//
// It owns both ends' plumbing and must not be used outside of tests.
package qmptest
