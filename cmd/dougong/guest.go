package main

import (
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/guestimage"
)

func newGuestCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "guest",
		Short: "Build and list guest images: the kernel and initramfs that virtual machines boot",
		// Without these two a misspelt verb would print the help and succeed.
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGuestBuildCommand(a), newGuestListCommand(a))
	return cmd
}

// guestDir is where guest images are kept.
func (a *app) guestDir() string { return filepath.Join(a.cfg.Storage.Root, "guest") }

func newGuestBuildCommand(a *app) *cobra.Command {
	var root, agent, crun string
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build a guest image and make it the one that virtual machines boot",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if root == "" {
				root = kernelRoot(besideSelf("."))
			}
			kernel, err := guestimage.FindKernel(root)
			if err != nil {
				return err
			}
			if agent == "" {
				agent = besideSelf("dougong-agent")
			}
			if crun == "" {
				crun = guestCrun()
			}
			img, err := guestimage.Build(a.guestDir(), guestimage.Options{Kernel: kernel, Agent: agent, Crun: crun})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s  kernel %s, initramfs %s\n", img.ID, img.Release, humanSize(int64(img.InitrdSize)))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&root, "kernel-root", "", "directory with boot/vmlinuz-* and lib/modules/* (default: the trimmed kernel of 'make kernel' where it was built or installed, else /)")
	f.StringVar(&agent, "agent", "", "agent binary (default: dougong-agent beside dougong)")
	f.StringVar(&crun, "crun", "", "crun binary (default: dougong-crun beside dougong, else /usr/bin/crun)")
	return cmd
}

// besideSelf is a path in the directory of this program.
func besideSelf(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

// trimmedKernels are the places of the trimmed kernel, from the directory of
// this program: where 'make install' puts it, and where 'make kernel' leaves it.
var trimmedKernels = []string{"../lib/dougong/kernel", "../kernel-trimmed/current"}

// kernelRoot is where the kernel is looked for when nobody says, for a program
// in bin: the trimmed one goes before those of this host.
func kernelRoot(bin string) string {
	for _, dir := range trimmedKernels {
		root := filepath.Join(bin, dir)
		if _, err := guestimage.FindKernel(root); err == nil {
			return root
		}
	}
	return "/"
}

// guestCrun prefers the static crun that comes with dougong: it starts twice
// as fast in the guest.
func guestCrun() string {
	static := besideSelf("dougong-crun")
	if _, err := os.Stat(static); err == nil {
		return static
	}
	return "/usr/bin/crun"
}

func newGuestListCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List guest images, the newest first",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := guestimage.List(a.guestDir())
			if err != nil {
				return err
			}
			if format == "json" {
				return printJSON(cmd.OutOrStdout(), list)
			}
			if format != "table" {
				return unknownFormat(format)
			}
			current := ""
			if img, err := guestimage.Current(a.guestDir()); err == nil {
				current = img.ID
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 3, ' ', 0)
			fmt.Fprintln(t, "IMAGE\tKERNEL\tKERNEL SIZE\tINITRAMFS SIZE\tCREATED\tCURRENT")
			for _, img := range list {
				mark := ""
				if img.ID == current {
					mark = "*"
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", img.ID, img.Release, humanSize(int64(img.KernelSize)),
					humanSize(int64(img.InitrdSize)), img.Created.Format("2006-01-02 15:04"), mark)
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	return cmd
}
