// Package image is the embedded image store: it pulls images from registries,
// loads them from layouts and archives, keeps their blobs by content in an OCI
// layout, and makes each image one EROFS file that a VM can mount.
//
// It owns everything below its root directory (/var/lib/dougong by default):
//
//	oci/        an OCI layout: blobs, and index.json with the names
//	erofs/      one flattened image for each chain of layers
//	locks/      flock files of blobs and chains that are being made
//	tmp/        files that are being written; stale ones go when a store opens
//
// Any number of processes may use a store at the same time. Nothing is visible
// under its final name before it is complete, verified and on disk.
//
// It starts no VM and knows no sandbox: who uses an image says so by holding
// the lock that [Store.Acquire] gives.
package image
