package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/shim"
	"dougong.dev/dougong/internal/template"
)

func newTemplateCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "template",
		Short: "Make, list and remove the saved virtual machines that others are clones of",
		// Without these two a misspelt verb would print the help and succeed.
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTemplateCreateCommand(a), newTemplateListCommand(a), newTemplateRmCommand(a))
	return cmd
}

func newTemplateCreateCommand(a *app) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make the template that 'dougong run' with these flags uses, unless it is there, and print its key",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := o.machine(a.cfg)
			if err != nil {
				return err
			}
			t, err := shim.MakeTemplate(cmd.Context(), a.cfg, config.Overrides{CPUs: m.cpus, MemoryMiB: m.memoryMiB, Network: m.network})
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), t.Key)
			return nil
		},
	}
	o.registerShape(cmd.Flags())
	return cmd
}

func newTemplateListCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List templates, the most recently used first",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := shim.Templates(a.cfg)
			if err != nil {
				return err
			}
			list, err := store.List()
			if err != nil {
				return err
			}
			return printTemplates(cmd.OutOrStdout(), list, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	return cmd
}

func printTemplates(w io.Writer, list []*template.Template, format string) error {
	if format == "json" {
		return printJSON(w, append([]*template.Template{}, list...))
	}
	if format != "table" {
		return unknownFormat(format)
	}
	t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	fmt.Fprintln(t, "TEMPLATE\tMACHINE\tMEMORY\tSTORED\tIN\tCREATED")
	for _, s := range list {
		place := "disk"
		if s.InMemory {
			place = "memory"
		}
		fmt.Fprintf(t, "%s\t%s\t%d MiB\t%s\t%s\t%s ago\n", s.Key, s.Description, s.MemorySize>>20, humanSize(s.MemoryUsed+s.WarmUsed), place, age(time.Since(s.Created)))
	}
	return t.Flush()
}

func newTemplateRmCommand(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "rm {TEMPLATE [TEMPLATE…] | --all}",
		Short: "Remove templates; clones that run are not touched",
		RunE: func(cmd *cobra.Command, keys []string) error {
			if all != (len(keys) == 0) {
				return withHint(cmd, errors.New("name templates, or say --all"))
			}
			store, err := shim.Templates(a.cfg)
			if err != nil {
				return err
			}
			if all {
				return store.Clear()
			}
			return forEach(cmd, keys, func(key string) error {
				has, err := store.Has(key)
				if err == nil && !has {
					err = fmt.Errorf("template %s: %w", key, errdefs.ErrNotFound)
				}
				if err != nil {
					return err
				}
				return store.Remove(key)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove all")
	return cmd
}
