// Package guide reads the command blocks of a guide in Markdown, and the
// marks that say what tests them.
//
// It owns the form of the marks. It must not run anything.
package guide

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Block is a block of commands.
type Block struct {
	// Line is where it begins in the page, from 1.
	Line int
	// Text is its commands.
	Text string
	// Mark says what tests it.
	Mark Mark
}

// Mark is what stands in the comment before a block: "run", "as in: TESTS" or
// "not run: REASON". Its kind is empty without one.
type Mark struct {
	Kind Kind
	// Text is what comes after the colon.
	Text string
}

// Kind is a kind of mark.
type Kind string

// The kinds: Run for test/vm to run the block as it is, AsIn where tests that
// are named do the same, NotRun where nothing can.
const (
	Run    Kind = "run"
	AsIn   Kind = "as in"
	NotRun Kind = "not run"
)

var (
	fence   = regexp.MustCompile("(?ms)^( *)```([^\n`]*)\n(.*?)^ *```$")
	comment = regexp.MustCompile(`(?s)<!-- (run|as in|not run)(?:: ([^>]+?))? -->\s*$`)
	// commands are the languages of blocks that people type.
	commands = []string{"", "sh", "bash", "console"}
)

// Blocks lists the command blocks of a page; those in another language than a
// shell's are files or output.
func Blocks(page string) ([]Block, error) {
	var all []Block
	for _, m := range fence.FindAllStringSubmatchIndex(page, -1) {
		if !slices.Contains(commands, strings.TrimSpace(page[m[4]:m[5]])) {
			continue
		}
		b := Block{Line: 1 + strings.Count(page[:m[0]], "\n"), Text: unindent(page[m[6]:m[7]], page[m[2]:m[3]])}
		if c := comment.FindStringSubmatch(page[:m[0]]); c != nil {
			b.Mark = Mark{Kind(c[1]), strings.Join(strings.Fields(c[2]), " ")}
		}
		if (b.Mark.Text == "") != (b.Mark.Kind == Run || b.Mark.Kind == "") {
			return nil, fmt.Errorf("line %d: %q needs a text after a colon, and only %q has none", b.Line, b.Mark.Kind, Run)
		}
		all = append(all, b)
	}
	return all, nil
}

func unindent(text, indent string) string {
	return strings.ReplaceAll("\n"+text, "\n"+indent, "\n")[1:]
}
