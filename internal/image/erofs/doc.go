// Package erofs writes uncompressed EROFS file systems.
//
// It owns the on-disk format: superblock, inodes, directories, extended
// attributes, inline tails and chunk maps. File contents go straight to the
// output while the tree of [Inode] is still being put together in memory, so
// every byte is written once and nothing is ever unpacked on the host.
//
// It knows nothing of tar, layers or images, and it does not read file systems.
package erofs
