package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
)

// explain turns the parser's errors into what people need: file and line, and
// for an unknown key the nearest known one.
func explain(file string, err error) error {
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		var errs []error
		for _, e := range strict.Errors {
			key := strings.Join(e.Key(), ".")
			line, _ := e.Position()
			errs = append(errs, fmt.Errorf("%s:%d: unknown key %q; did you mean %q?: %w", file, line, key, nearest(key), errdefs.ErrInvalidArgument))
		}
		return errors.Join(errs...)
	}
	if syntax, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := syntax.Position()
		what := strings.TrimPrefix(syntax.Error(), "toml: ")
		if key := strings.Join(syntax.Key(), "."); key != "" {
			what = key + ": " + what
		}
		return fmt.Errorf("%s:%d:%d: %s: %w", file, line, column, what, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("%s: %w: %w", file, err, errdefs.ErrInvalidArgument)
}

// nearest returns the known key or section that is the least edits away from key. A
// right name in a wrong section, or in none, is as near as a slip of one
// letter.
func nearest(key string) string {
	effort := func(known string) int {
		return min(distance(key, known), distance(leaf(key), leaf(known))+1)
	}
	var names []string
	for _, k := range Keys() {
		section, _ := sectionOf(k.Name)
		names = append(names, section, k.Name)
	}
	return slices.MinFunc(names, func(a, b string) int { return effort(a) - effort(b) })
}

// leaf is the part of a key after its section.
func leaf(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

// maxDistanceInput bounds the work on a name that is no name.
const maxDistanceInput = 128

// distance is the Levenshtein distance of a and b, in bytes.
func distance(a, b string) int {
	a = a[:min(len(a), maxDistanceInput)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
