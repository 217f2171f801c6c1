// Package network connects a virtual machine to the interfaces of a network
// namespace: what a CNI plugin, Docker or Podman put there.
//
// Each interface gets a tap beside it, and whatever arrives at one of the two is
// sent out by the other, so that the guest is where the namespace's own stack
// would be. The guest takes over name, hardware address, MTU, addresses, routes
// and fixed neighbours; the interface in the namespace keeps all it has.
//
// The package owns the namespace's handle, the look at what is in it (a
// Snapshot), the plan of what the guest gets (a pure function of that), and the
// taps with their redirection. It must not know of machines or agents, and it
// leaves a namespace as it was found: what is attached is detached by the value
// that Attach returns.
package network
