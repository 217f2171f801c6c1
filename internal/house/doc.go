// Package house holds the repository to its own rules: who may import whom,
// how large the binaries may be, and the form of sources and pages.
//
// It has tests only. Rules that a linter can hold are in .golangci.yml.
package house
