package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"dougong.dev/dougong/internal/version"
)

// newManCommand writes manual pages; packagers and 'make install' use it.
func newManCommand() *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use:   "man DIR",
		Short: "Write manual pages of all commands into a directory",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if markdown {
				return writeReference(cmd.Root(), args[0])
			}
			header := &doc.GenManHeader{Title: "DOUGONG", Section: "1", Source: "dougong " + version.String()}
			if err := doc.GenManTree(cmd.Root(), header, args[0]); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "write them as Markdown, for a site")
	return cmd
}

// writeReference writes a page of Markdown for each command into a directory.
func writeReference(root *cobra.Command, dir string) error {
	for _, c := range reachable(root) {
		path := filepath.Join(dir, referenceFile(c))
		if err := os.WriteFile(path, referencePage(c), 0o644); err != nil {
			return fmt.Errorf("write the reference of %q: %w", c.CommandPath(), err)
		}
	}
	return nil
}
