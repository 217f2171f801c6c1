// Package oci tests the commands of the OCI runtime as their callers use them:
// with bundles, pid files, terminals sent to a socket, as a child of a process
// that reaps, and in real virtual machines.
//
//	make test-oci
//	cd test && DOUGONG_BIN=$PWD/../_build/bin go test ./oci
//
// The binaries come from $DOUGONG_BIN (default ../../_build/bin), the guest
// image from /var/lib/dougong/guest/current. The tests must run as root;
// elsewhere they are skipped.
//
// The package has tests only; nothing may import it.
package oci
