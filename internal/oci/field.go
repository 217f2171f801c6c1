package oci

import (
	"reflect"
	"slices"
	"strings"
)

// Class says what becomes of a field of the runtime spec on its way into the guest.
type Class string

// The classes of a field.
const (
	// Honoured fields reach the guest as they are.
	Honoured Class = "honoured"
	// Translated fields take effect in another form or at another place; the
	// row's Rule says how.
	Translated Class = "translated"
	// Refused fields are an error when they are set.
	Refused Class = "refused"
)

// Field is the row of one field of the runtime spec in the table of what is
// carried into the guest. A row covers everything below its path.
type Field struct {
	// Path is made of the JSON names: "process.user.uid", "mounts[].type",
	// "linux.resources.rdma".
	Path  string
	Class Class
	// Rule says how a field is translated, or why it is refused.
	Rule string
	// Test names the test that holds the row.
	Test string

	// neutral reports a value of a refused field that asks for nothing. nil
	// means: no value, or only zero values below it.
	neutral func(reflect.Value) bool
}

// Fields returns the whole table, in the order of the specification.
func Fields() []Field {
	return slices.Concat(topFields, processFields, mountFields, hookFields, linuxFields, resourceFields, seccompFields, platformFields)
}

func keep(path string) Field {
	return Field{Path: path, Class: Honoured, Test: "TestGuestKeepsField/" + path}
}

func turn(path, rule, test string) Field {
	return Field{Path: path, Class: Translated, Rule: rule, Test: test}
}

func refuse(path, rule string) Field {
	return Field{Path: path, Class: Refused, Rule: rule, Test: "TestGuestRefusesField/" + path}
}

func refuseUnless(path, rule string, neutral func(reflect.Value) bool) Field {
	f := refuse(path, rule)
	f.neutral = neutral
	return f
}

// asksNothing reports whether a refused field may stay as it is.
func (f Field) asksNothing(v reflect.Value) bool {
	if f.neutral != nil {
		return isUnset(v) || f.neutral(v)
	}
	return isHollow(v)
}

var (
	fieldByPath = map[string]Field{}
	// innerPaths are the paths that have rows below them.
	innerPaths = map[string]bool{}
)

func init() {
	for _, f := range Fields() {
		fieldByPath[f.Path] = f
		for p := parentPath(f.Path); p != ""; p = parentPath(p) {
			innerPaths[p] = true
		}
	}
}

// parentPath cuts the last step: "a.b[].c" becomes "a.b[]", then "a.b", then "a".
func parentPath(p string) string {
	for _, suffix := range []string{"[]", "{}"} {
		if s, ok := strings.CutSuffix(p, suffix); ok {
			return s
		}
	}
	return p[:max(strings.LastIndexByte(p, '.'), 0)]
}

// isUnset reports a nil or zero value, a pointer to zero not among them.
func isUnset(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	default:
		return v.IsZero()
	}
}

// isHollow reports that nothing but zero values is found in v: Docker writes
// pointers to zero for limits that nobody asked for.
func isHollow(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil() || isHollow(v.Elem())
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Struct:
		for _, field := range v.Fields() {
			if !isHollow(field) {
				return false
			}
		}
		return true
	default:
		return v.IsZero()
	}
}
