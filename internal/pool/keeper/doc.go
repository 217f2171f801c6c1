// Package keeper owns the machines that wait in a pool: it has them made one
// after the other, hands them to whoever claims one, and ends those that are
// too many, too old or of a kind that nobody asks for any more.
//
// It owns the stock and its policy. It must not know how a machine is made or
// what it consists of. Its machines live by leases: when this process ends,
// however it does, the kernel ends those that were not handed on, and no other.
package keeper
