// Command contributors counts who has contributed what, from the history of
// the repository, and prints it as JSON for the site.
//
// It runs git itself. It prints names and no addresses, and must not be used
// to judge people by.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// logArgs has git print each commit as a line that begins with a mark, with
// its date and the author's name, and then the files that it touched.
var logArgs = []string{"log", "--no-merges", "--date=short", "--name-only", "--format=" + mark + "%ad%x09%aN", "HEAD"}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "contributors:", err)
		os.Exit(1)
	}
}

func run() error {
	cmd := exec.Command("git", logArgs...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("read the history: %w; is git installed?", err)
	}
	m, readErr := count(out)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("read the history with 'git log': %w; is this a clone of the repository?", err)
	}
	if readErr != nil {
		return readErr
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(m)
}
