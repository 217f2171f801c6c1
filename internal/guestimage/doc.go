// Package guestimage builds what a VM boots: an uncompressed kernel, and an
// initramfs with the agent, crun and the kernel modules they need.
//
// It owns the content of the initramfs, its reproducibility and its place on
// disk. Fetching kernels belongs to scripts, and what happens in the guest to
// internal/guest.
package guestimage
