// Package critest runs the CRI validation suite (critest of cri-tools) against
// the newest containerd with Dougong as its runtime, offline: images are made
// here and served by a registry on the loopback interface, in a network
// namespace of the test's own.
//
// It is run by 'make test-cri' and needs root. expected.txt lists every test of
// the suite that fails, with the reason.
package critest
