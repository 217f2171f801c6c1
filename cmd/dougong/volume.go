package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/volume"
)

func newVolumeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Have the guests of pods mount file systems of block devices and image files",
		Long: `Have the guests of pods mount file systems of block devices and image files.

A directory of the host is named that mounts of a pod's containers name too, such as
the one that a storage driver publishes to the kubelet. In its place the guest gets
the block device, or the image file, as a disk, and mounts it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newVolumeAddCommand(a), newVolumeRemoveCommand(a), newVolumeListCommand(a), newVolumeStatCommand(a), newVolumeResizeCommand(a))
	return cmd
}

func newVolumeAddCommand(a *app) *cobra.Command {
	var d volume.Direct
	cmd := &cobra.Command{
		Use:   "add [flags] DIRECTORY SOURCE",
		Short: "Write down that SOURCE is mounted where containers of pods name DIRECTORY",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			d.Path, d.Source = args[0], args[1]
			return volume.AddDirect(volume.DirectDir(a.cfg.Runtime.State), d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.FSType, "type", "ext4", "file system: ext4 or xfs")
	f.StringSliceVarP(&d.Options, "option", "o", nil, "options of the mount")
	f.BoolVar(&d.ReadOnly, "read-only", false, "open and mount it for reading alone; several pods then may have it")
	f.Uint32Var(&d.FSGroup, "fs-group", 0, "group that its files are given to, as by a pod's fsGroup; 0 leaves them alone")
	return cmd
}

func newVolumeRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove DIRECTORY",
		Short: "Forget the volume of a directory; pods that have it keep it",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return volume.RemoveDirect(volume.DirectDir(a.cfg.Runtime.State), args[0])
		},
	}
}

func newVolumeListCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the volumes that are written down",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return unknownFormat(format)
			}
			all, err := volume.ListDirect(volume.DirectDir(a.cfg.Runtime.State))
			if err != nil {
				return err
			}
			return printVolumes(cmd.OutOrStdout(), all, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	return cmd
}

func printVolumes(w io.Writer, all []volume.Direct, format string) error {
	if format == "json" {
		return printJSON(w, all)
	}
	t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	fmt.Fprintln(t, "DIRECTORY\tSOURCE\tTYPE\tOPTIONS")
	for _, d := range all {
		options := d.Options
		if d.ReadOnly {
			options = append([]string{"ro"}, options...)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", d.Path, d.Source, d.FSType, strings.Join(options, ","))
	}
	return t.Flush()
}

func newVolumeStatCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "stat DIRECTORY",
		Short: "Tell how full a volume is that a pod has mounted, as JSON in bytes and files",
		Args:  cobra.ExactArgs(1),
		RunE:  askVolume(a, volume.AskStats),
	}
}

func newVolumeResizeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "resize DIRECTORY",
		Short: "Grow a volume that a pod has mounted to the size that its source has now, and tell how full it is",
		Args:  cobra.ExactArgs(1),
		RunE:  askVolume(a, volume.AskGrow),
	}
}

// askVolume asks the sandbox that has a volume.
func askVolume(a *app, ask func(dir, path string) (volume.Stats, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		dir := volume.DirectDir(a.cfg.Runtime.State)
		_, ok, err := volume.FindDirect(dir, args[0])
		if err == nil && !ok {
			err = fmt.Errorf("volume %s: %w", args[0], errdefs.ErrNotFound)
		}
		if err != nil {
			return err
		}
		stats, err := ask(dir, args[0])
		if err != nil {
			return err
		}
		return printJSON(cmd.OutOrStdout(), stats)
	}
}
