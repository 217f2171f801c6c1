package guide

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBlocks(t *testing.T) {
	page := "# X\n\n<!-- run -->\n```sh\na\n  b\n```\n\n```toml\nnot = \"one\"\n```\n\n" +
		"1. in a list\n   <!-- not run: it takes\n   a day -->\n\n   ```\n   c \\\n     d\n   ```\n\n" +
		"<!-- as in: test/vm TestX -->\n```console\ne\n```\n\n<!-- run -->\nbut not right before\n\n```\nf\n```\n"
	want := []Block{
		{4, "a\n  b\n", Mark{Kind: Run}},
		{17, "c \\\n  d\n", Mark{NotRun, "it takes a day"}},
		{23, "e\n", Mark{AsIn, "test/vm TestX"}},
		{30, "f\n", Mark{}},
	}
	got, err := Blocks(page)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("blocks (-want +got): %v\n%s", err, diff)
	}
}

func TestMarksWithoutAReason(t *testing.T) {
	for _, mark := range []string{"not run", "as in", "run: me"} {
		if b, err := Blocks("<!-- " + mark + " -->\n```\nx\n```\n"); err == nil {
			t.Errorf("%q is taken for a mark: %+v", mark, b)
		}
	}
}
