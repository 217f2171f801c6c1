package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/image/reference"
)

// listedImage is an image as JSON shows it.
type listedImage struct {
	Ref      string    `json:"ref"`
	ID       string    `json:"id"`
	Digest   string    `json:"digest"`
	Platform string    `json:"platform"`
	Created  time.Time `json:"created"`
	Size     int64     `json:"size"`
	RootFS   string    `json:"rootfs,omitempty"`
}

func newImagesCommand(a *app) *cobra.Command {
	var quiet bool
	var format string
	cmd := &cobra.Command{
		Use:   "images",
		Short: "List images in the store",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			list, err := store.List()
			if err != nil {
				return err
			}
			return printImages(cmd.OutOrStdout(), list, quiet, format)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	return cmd
}

func printImages(w io.Writer, list []*image.Image, quiet bool, format string) error {
	switch {
	case quiet:
		for _, img := range list {
			fmt.Fprintln(w, shortID(img.ID.Encoded()))
		}
		return nil
	case format == "json":
		all := make([]listedImage, 0, len(list))
		for _, img := range list {
			all = append(all, listedImage{
				Ref: img.Ref, ID: img.ID.String(), Digest: img.Digest.String(),
				Platform: img.Platform, Created: img.Created, Size: img.Size, RootFS: img.RootFS,
			})
		}
		return printJSON(w, all)
	case format != "table":
		return unknownFormat(format)
	}
	t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tIMAGE ID\tCREATED\tSIZE")
	for _, img := range list {
		created := "unknown"
		if !img.Created.IsZero() {
			created = age(time.Since(img.Created)) + " ago"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", reference.Familiar(img.Ref), shortID(img.ID.Encoded()), created, humanSize(img.Size))
	}
	return t.Flush()
}

// humanSize says a number of bytes in the largest decimal unit, as Docker does.
func humanSize(n int64) string {
	value, units := float64(n), []string{"B", "kB", "MB", "GB", "TB"}
	for _, u := range units[:len(units)-1] {
		if value < 1000 {
			return fmt.Sprintf("%.4g%s", value, u)
		}
		value /= 1000
	}
	return fmt.Sprintf("%.4g%s", value, units[len(units)-1])
}

func newLoadCommand(a *app) *cobra.Command {
	var input string
	p := pullFlags{}
	cmd := &cobra.Command{
		Use:   "load -i FILE",
		Short: "Take the images of an archive (docker save, or an OCI archive) into the store",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			list, err := store.Load(cmd.Context(), input, image.PullOptions{Platform: p.platform})
			if err != nil {
				return err
			}
			for _, img := range list {
				fmt.Fprintln(cmd.OutOrStdout(), "Loaded image:", reference.Familiar(img.Ref))
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "the archive")
	p.register(cmd.Flags())
	// The flag was defined one line up.
	_ = cmd.MarkFlagRequired("input")
	return cmd
}

func newRmiCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rmi IMAGE [IMAGE…]",
		Short: "Remove images from the store",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			return forEach(cmd, args, func(name string) error {
				_, err := store.Remove(cmd.Context(), name, image.RemoveOptions{Force: force, UsedBy: a.usersOf})
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove an image though containers use it, or all its names")
	return cmd
}

// usersOf names the containers made from an image.
func (a *app) usersOf(img *image.Image) ([]string, error) {
	e, err := a.containers()
	if err != nil {
		return nil, err
	}
	dirs, err := e.Root.List()
	if err != nil {
		return nil, err
	}
	var users []string
	for _, dir := range dirs {
		if rec, err := dir.Record(); err == nil && rec.ImageID == img.ID.String() {
			users = append(users, rec.Name)
		}
	}
	return users, nil
}
