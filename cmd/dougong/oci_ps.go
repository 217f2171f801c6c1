package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/ocirun"
)

// printProcesses lists the processes of one container. Options for ps, which
// other runtimes hand to the host's, are accepted: the guest tells the same
// things whatever is asked for.
func (a *app) printProcesses(cmd *cobra.Command, ref, format string) error {
	dir, err := a.find(ref)
	if err != nil {
		return err
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	list, err := r.Processes(cmd.Context(), dir.ID)
	if err != nil {
		return err
	}
	return writeProcesses(cmd.OutOrStdout(), list, format)
}

func writeProcesses(w io.Writer, list []ocirun.Process, format string) error {
	switch format {
	case "json":
		pids := make([]int, 0, len(list))
		for _, p := range list {
			pids = append(pids, p.PID)
		}
		return printJSON(w, pids)
	case "table":
		t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
		fmt.Fprintln(t, "UID\tPID\tCMD")
		for _, p := range list {
			fmt.Fprintf(t, "%d\t%d\t%s\n", p.UID, p.PID, strings.Join(p.Args, " "))
		}
		return t.Flush()
	}
	return unknownFormat(format)
}
