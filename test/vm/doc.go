// Package vm tests the built binaries from end to end, as a user would run
// them, with real virtual machines:
//
//	make test-vm
//	cd test && DOUGONG_BIN=$PWD/../_build/bin go test ./vm/...
//	cd test && DOUGONG_LONG=1 go test -timeout 60m -run 'Stream|Loop|AtOnce' ./vm/...
//
// The binaries come from $DOUGONG_BIN (default ../../_build/bin), the guest
// image from $DOUGONG_GUEST (default /var/lib/dougong/guest/current). Every
// test has a configuration and a state directory of its own below the
// temporary directory, so nothing meets the containers of the machine's user.
// The tests must run as root; elsewhere they are skipped.
//
// At most two tests run virtual machines at a time. After each test, check of
// what it left: processes, open files, mounts, network devices, state.
//
// The package has tests only; nothing may import it.
package vm
