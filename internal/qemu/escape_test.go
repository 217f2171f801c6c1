package qemu

import "testing"

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"plain":                 "plain",
		"a,b":                   "a,,b",
		",":                     ",,",
		"a,,b":                  "a,,,,b",
		"x,fd=3,id=evil":        "x,,fd=3,,id=evil",
		"spaces and = are fine": "spaces and = are fine",
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q) = %q, want %q", in, got, want)
		}
	}
}
