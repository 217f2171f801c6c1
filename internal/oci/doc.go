// Package oci holds what Dougong knows about OCI specs: it writes a host
// runtime spec from an image's config and the options of `dougong run`
// (Generate), and it turns any host spec into the spec that crun gets inside
// the guest (Guest, GuestProcess).
//
// Everything here is a function from data to data. The package must not read
// files, look up users or hosts, or make a system call. What it cannot carry
// into a guest it refuses by the field's name; it drops nothing in silence.
package oci
