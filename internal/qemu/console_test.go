package qemu

import (
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func TestTailKeepsTheLastBytes(t *testing.T) {
	for _, tc := range []struct {
		writes []string
		want   string
	}{
		{nil, ""},
		{[]string{"ab"}, "ab"},
		{[]string{"abcd", "efgh"}, "abcdefgh"},
		{[]string{"abcdefgh", "i"}, "bcdefghi"},
		{[]string{"abcdef", "ghijkl"}, "efghijkl"},
		{[]string{"abc", "0123456789abcdefghij"}, "cdefghij"},
		{[]string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"}, "defghijk"},
	} {
		tail := newTail(8)
		for _, w := range tc.writes {
			if n, err := tail.Write([]byte(w)); n != len(w) || err != nil {
				t.Fatalf("Write(%q) = %d, %v", w, n, err)
			}
		}
		if got := tail.String(); got != tc.want {
			t.Errorf("after %q: %q, want %q", tc.writes, got, tc.want)
		}
	}
}

// The guest must not be able to command the terminal that its console is
// shown on.
func TestPrintableText(t *testing.T) {
	for in, want := range map[string]string{
		"line\r\n\tnext":       "line\n\tnext",
		"\x1b[2J\x1b]0;evil\a": "[2J]0;evil",
		"c1 \u009b2J":          "c1 2J",
		"bad \xff utf-8 \x80":  "bad  utf-8 ",
		"斗拱\x00":               "斗拱",
	} {
		if got := printableText(in); got != want {
			t.Errorf("printableText(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLastLines(t *testing.T) {
	if diff := cmp.Diff([]string{"b", "c"}, lastLines("a\nb  \n\n  \nc", 2)); diff != "" {
		t.Error(diff)
	}
	if got := lastLines("\n\n", 3); len(got) != 0 {
		t.Errorf("= %q", got)
	}
}

func FuzzPrintableText(f *testing.F) {
	f.Add("\x1b[31mred")
	f.Fuzz(func(t *testing.T, s string) {
		clean := printableText(s)
		if i := strings.IndexFunc(clean, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }); i >= 0 {
			t.Errorf("%q left in %q", clean[i:], s)
		}
		_ = panicText(clean)
	})
}
