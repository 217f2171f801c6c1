// Package podman tests Dougong as the OCI runtime of the distribution's Podman,
// with real virtual machines.
//
//	make test-podman
//	cd test && DOUGONG_BIN=$PWD/../_build/bin go test ./podman
//
// The tests run in namespaces of mounts and network of their own, with a store
// of images of their own; nothing meets the containers of the machine's user.
// They must run as root; elsewhere, and without Podman, they fail to start.
//
// The package has tests only; nothing may import it.
package podman
