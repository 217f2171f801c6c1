// Package sizing reckons what containers may use, and from that how large
// their machine has to be and what the host lets all of it take.
//
// It owns the rules and is pure data. It must not look at the host, nor act on
// what it finds.
package sizing
