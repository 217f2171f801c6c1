package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/oci"
)

func newFeaturesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "features",
		Short: "Print as JSON what of the OCI runtime specification is supported",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printJSON(cmd.OutOrStdout(), oci.Features())
		},
	}
}

func newSpecCommand() *cobra.Command {
	var bundle string
	cmd := &cobra.Command{
		Use:   "spec",
		Short: "Write a config.json for a bundle: a shell in a terminal",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path := filepath.Join(bundle, "config.json")
			f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
			if err != nil {
				return fmt.Errorf("write OCI spec: %w", err)
			}
			defer f.Close()
			return printJSON(f, oci.Example())
		},
	}
	cmd.Flags().StringVarP(&bundle, "bundle", "b", ".", "directory of the bundle")
	return cmd
}
