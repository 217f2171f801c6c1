package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/check"
	"dougong.dev/dougong/internal/engine"
)

func newCheckCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Show what this host offers, what is missing, and how to mend it",
		Long: `Show what this host offers, what is missing, and how to mend it.

"warn" means that containers run, though slower or without a part; "fail" means
that they do not run. The exit status is 1 when something fails.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			host := check.NewHost(a.cfg, func() (string, error) { return shimPath(a.cfg.Runtime.Shim) }, findCrun)
			results := check.Run(cmd.Context(), host)
			var err error
			if asJSON {
				err = check.WriteJSON(cmd.OutOrStdout(), results)
			} else {
				err = check.WriteTable(cmd.OutOrStdout(), results, check.Colours(os.Stdout, os.Getenv))
			}
			if err == nil && check.Worst(results) == check.Fail {
				err = &engine.ExitError{Code: 1}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// findCrun is the crun that a guest image would get.
func findCrun() (string, error) {
	path := guestCrun()
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("look for crun: %w", err)
	}
	return path, nil
}
