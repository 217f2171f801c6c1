package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/engine"
)

func newPsCommand(a *app) *cobra.Command {
	var all, quiet bool
	var format string
	cmd := &cobra.Command{
		Use:   "ps [flags] [CONTAINER]",
		Short: "List containers, or the processes of one",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return a.printProcesses(cmd, args[0], format)
			}
			list, err := a.list(cmd, all)
			if err != nil {
				return err
			}
			return printContainers(cmd.OutOrStdout(), list, quiet, format)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "show ended containers too")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVarP(&format, "format", "f", "table", "table or json")
	return cmd
}

func (a *app) list(cmd *cobra.Command, all bool) ([]*engine.Status, error) {
	e, err := a.containers()
	if err != nil {
		return nil, err
	}
	dirs, err := e.Root.List()
	if err != nil {
		return nil, err
	}
	var list []*engine.Status
	for _, dir := range dirs {
		status, err := e.Status(cmd.Context(), dir)
		if err != nil {
			// It ended and was removed while we looked.
			continue
		}
		if all || status.State != "exited" {
			list = append(list, status)
		}
	}
	slices.SortFunc(list, func(x, y *engine.Status) int { return y.Record.Created.Compare(x.Record.Created) })
	return list, nil
}

func printContainers(w io.Writer, list []*engine.Status, quiet bool, format string) error {
	switch {
	case quiet:
		for _, s := range list {
			fmt.Fprintln(w, shortID(s.Record.ID))
		}
		return nil
	case format == "json":
		return printJSON(w, describeAll(list))
	case format != "table":
		return unknownFormat(format)
	}
	t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	fmt.Fprintln(t, "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tPORTS\tNAMES")
	for _, s := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s ago\t%s\t%s\t%s\n", shortID(s.Record.ID), s.Record.Image, shortCommand(s.Record.Command),
			age(time.Since(s.Record.Created)), statusText(s), strings.Join(s.Record.Ports, ", "), s.Record.Name)
	}
	return t.Flush()
}

func shortID(id string) string { return id[:min(12, len(id))] }

// shortCommand quotes a command and cuts it to the width that Docker uses.
func shortCommand(args []string) string {
	const width = 20
	s := []rune(strings.Join(args, " "))
	if len(s) > width {
		s = append(s[:width-1], '…')
	}
	return fmt.Sprintf("%q", string(s))
}

func statusText(s *engine.Status) string {
	switch s.State {
	case "exited":
		text := fmt.Sprintf("Exited (%d) %s ago", s.Exit.Status, age(time.Since(s.Exit.Time)))
		if s.Exit.Error != "" {
			text += ", VM failed"
		}
		return text
	case "running":
		return "Up " + age(time.Since(s.Started))
	case "paused":
		return "Up " + age(time.Since(s.Started)) + " (Paused)"
	}
	return "Created"
}

// age says a duration in its largest unit.
func age(d time.Duration) string {
	units := []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}}
	for _, u := range units {
		if n := int(d / u.length); n == 1 {
			return "1 " + u.name
		} else if n > 1 {
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return "less than a second"
}

// unknownFormat is the error of a --format that is none.
func unknownFormat(format string) error {
	return fmt.Errorf("--format %q: want table or json", format)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}
