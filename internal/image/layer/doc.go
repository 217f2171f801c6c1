// Package layer applies OCI image layers (tar archives, perhaps compressed) to
// a tree in memory and turns the result into one EROFS image.
//
// It owns the meaning of a layer: whiteouts, links, the order of changes, and
// the limits that keep a hostile layer from exhausting the host. Names are
// resolved in the tree alone, as after a chroot: no layer can name a file of
// the host, for nothing is unpacked.
//
// It does not fetch, store or verify blobs; it reports the digest of what it
// read.
package layer
