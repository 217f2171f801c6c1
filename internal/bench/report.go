package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Report is the result of a run.
type Report struct {
	Time    time.Time `json:"time"`
	Image   string    `json:"image"`
	Runs    int       `json:"runs"`
	Machine Machine   `json:"machine"`
	// Notes say what to keep in mind when reading the rows.
	Notes []string `json:"notes,omitempty"`
	Rows  []Row    `json:"rows"`
	// Starts say where the time of some rows went.
	Starts []Start `json:"starts,omitempty"`
}

// WriteJSON prints a report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("print figures: %w", err)
	}
	return nil
}

// WriteTable prints a report for people.
func (r *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	for _, line := range r.Machine.lines() {
		fmt.Fprintln(&b, line)
	}
	fmt.Fprintf(&b, "image:   %s, %d runs, %s\n\n", r.Image, r.Runs, r.Time.UTC().Format("2006-01-02 15:04 UTC"))
	cells := [][]string{{"ROW", "MEDIAN", "MIN", "MAX", "RATIO", "PROMISE", ""}}
	for _, row := range r.Rows {
		cells = append(cells, row.cells())
	}
	writeAligned(&b, cells)
	fmt.Fprintln(&b)
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "%-18s  %s\n", row.Name, row.About)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\nnote: %s\n", note)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print figures: %w", err)
	}
	return nil
}

func (r *Row) cells() []string {
	if r.Runs == 0 {
		return []string{r.Name, "not available: " + r.Missing}
	}
	ratio := ""
	if r.Ratio > 0 {
		ratio = fmt.Sprintf("%.2f × %s", r.Ratio, r.RatioTo)
	}
	q := func(v float64) string { return quantity(v, r.Unit) }
	return []string{r.Name, q(r.Median), q(r.Min), q(r.Max), ratio, r.Bound.text(r.Unit), string(r.Verdict)}
}

// firstNumber and lastNumber are the columns that are aligned on the right.
const firstNumber, lastNumber = 1, 3

// writeAligned writes columns two spaces apart. A row that has only two cells
// does not count for the widths: its second is a remark.
func writeAligned(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, cells := range rows {
		for i, cell := range cells {
			if i == 0 || len(cells) > 2 {
				widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			}
		}
	}
	for _, cells := range rows {
		var line strings.Builder
		for i, cell := range cells {
			if i > 0 {
				line.WriteString("  ")
			}
			pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
			if len(cells) > 2 && i >= firstNumber && i <= lastNumber {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}
