// Package docker tests Dougong as an OCI runtime of the distribution's Docker,
// with real virtual machines.
//
//	make test-docker
//	cd test && DOUGONG_BIN=$PWD/../_build/bin go test ./docker
//
// The tests start a daemon in namespaces of mounts and network of their own,
// with directories of its own; nothing meets the containers of the machine's
// user. They must run as root; elsewhere they are skipped.
//
// The package has tests only; nothing may import it.
package docker
