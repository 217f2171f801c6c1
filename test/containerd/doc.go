// Package containerd tests the shim under real daemons: Debian's containerd
// and the newest one, each on its own root, state and sockets.
//
// It sees what users of ctr see, and what is on the host afterwards. It must
// not look into packages of the product.
package containerd
