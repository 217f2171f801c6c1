package check

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Colours reports whether output to f should be coloured: f is a terminal and
// the user has not set NO_COLOR (https://no-color.org).
func Colours(f *os.File, getenv func(string) string) bool {
	if getenv("NO_COLOR") != "" || getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// colour holds the escape sequences of green, yellow and red.
var colour = map[Status]string{OK: "\x1b[32m", Warn: "\x1b[33m", Fail: "\x1b[31m"}

const plain = "\x1b[0m"

// WriteTable prints results for people.
func WriteTable(w io.Writer, results []Result, coloured bool) error {
	width := len("CHECK")
	for _, r := range results {
		width = max(width, len(r.Name))
	}
	if _, err := fmt.Fprintf(w, "%-*s  %-6s  %s\n", width, "CHECK", "STATUS", "DETAIL"); err != nil {
		return fmt.Errorf("print checks: %w", err)
	}
	for _, r := range results {
		if err := writeRow(w, width, r, coloured); err != nil {
			return fmt.Errorf("print checks: %w", err)
		}
	}
	return nil
}

func writeRow(w io.Writer, width int, r Result, coloured bool) error {
	// The colour goes around the padding, so that it does not count.
	status := fmt.Sprintf("%-6s", r.Status)
	if coloured {
		status = colour[r.Status] + status + plain
	}
	if _, err := fmt.Fprintf(w, "%-*s  %s  %s\n", width, r.Name, status, r.Detail); err != nil {
		return err
	}
	if r.Fix == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "%-*s  %-6s  mend: %s\n", width, "", "", r.Fix)
	return err
}

// report is the form of the JSON output.
type report struct {
	Status Status   `json:"status"`
	Checks []Result `json:"checks"`
}

// WriteJSON prints results for programs.
func WriteJSON(w io.Writer, results []Result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(report{Status: Worst(results), Checks: results}); err != nil {
		return fmt.Errorf("print checks: %w", err)
	}
	return nil
}
