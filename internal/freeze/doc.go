// Package freeze keeps a stopped process in files, and makes copies of it that
// go on from there: memory, registers, threads, descriptors, signal handlers and
// system call filters.
//
// It is for an emulator that has translated what its guest runs. That is in no
// state that the emulator itself could save, and takes longest to make.
//
// The package owns how a process is taken apart and put together. What the
// process is for, and what its files mean, is for its caller: sockets and files
// without a name are the caller's to replace, by names of its own. What cannot be
// kept is refused when the process is frozen, never dropped. A frozen process
// is of use only for as long as this kernel runs, and while the files that it
// had mapped are the same.
//
//	Freeze: ptrace, /proc  ->  pages (what is in no other file)
//	                           manifest (threads, and a program of system calls)
//	Thaw:   a stub of a hundred bytes runs the program, and becomes the process
package freeze
