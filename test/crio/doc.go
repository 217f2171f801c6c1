// Package crio tests Dougong under CRI-O, in both of the ways in which that takes
// a runtime: by the OCI runtime's commands, and by containerd's shim.
//
//	make test-crio
//
// The tests start a daemon in namespaces of mounts and network of their own, with
// directories of its own, and speak to it by crictl. $DOUGONG_CRIO is a directory
// with crio, pinns and crictl. The tests must run as root; elsewhere they are
// skipped.
//
// The package has tests only; nothing may import it.
package crio
