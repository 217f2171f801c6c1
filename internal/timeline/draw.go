package timeline

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// barWidth is how many characters the whole of a waterfall is wide.
const barWidth = 50

// Write draws spans as a waterfall: a line for each, with a bar where it was.
func Write(w io.Writer, title string, spans []Span) error {
	spans = Sort(spans)
	begin, end := Bounds(spans)
	width := len("phase")
	for _, s := range spans {
		width = max(width, 2*s.Depth+utf8.RuneCountInString(s.Name))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%-*s  %9s  %9s\n", title, width, "phase", "at", "took")
	for _, s := range spans {
		name := strings.Repeat("  ", s.Depth) + s.Name
		pad := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(name)))
		line := fmt.Sprintf("%s%s  %s  %s  %s", name, pad, millis(s.Begin.Sub(begin)), millis(s.Took()), bar(s, begin, end))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print timeline: %w", err)
	}
	return nil
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%6.1f ms", float64(d)/float64(time.Millisecond))
}

// bar is the span's part of the whole. Even the shortest is to be seen.
func bar(s Span, begin, end time.Time) string {
	whole := end.Sub(begin)
	if whole <= 0 {
		return ""
	}
	column := func(t time.Time) int { return int(int64(barWidth) * int64(t.Sub(begin)) / int64(whole)) }
	from := min(column(s.Begin), barWidth-1)
	until := min(max(column(s.End), from+1), barWidth)
	fill := "█"
	if s.Depth > 0 {
		fill = "▒"
	}
	return strings.Repeat(" ", from) + strings.Repeat(fill, until-from)
}
