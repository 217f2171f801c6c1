// Package record keeps what is on disk about a running or ended sandbox:
// one directory /run/dougong/<id>/ with a small JSON record, the exit record,
// a lock and the sandbox's sockets and logs, and a name that points to it.
//
// It owns the layout of that directory, the uniqueness of names, and the
// question who is alive: the sandbox process holds the lock of its directory
// for as long as it lives, so a free lock means a dead sandbox, whatever
// killed it. It must not start, stop or talk to sandboxes.
package record
