package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/oci/flags"
)

// allMounts joins -v, --mount and --tmpfs.
func (o *runOptions) allMounts() ([]oci.Mount, error) {
	var all []oci.Mount
	for _, s := range o.volumes {
		v, err := flags.ParseVolume(s)
		if err != nil {
			return nil, err
		}
		m, err := volumeMount(v)
		if err != nil {
			return nil, fmt.Errorf("-v %s: %w", s, err)
		}
		all = append(all, m)
	}
	for _, s := range o.mounts {
		m, err := flags.ParseMount(s)
		if err != nil {
			return nil, err
		}
		if m.Type == oci.MountBind {
			if m.Source, err = existing(m.Source); err != nil {
				return nil, fmt.Errorf("--mount %s: %w", s, err)
			}
		}
		all = append(all, m)
	}
	for _, s := range o.tmpfs {
		m, err := flags.ParseTmpfs(s)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// volumeMount is the mount of a -v flag. A missing host directory is made, as
// in Docker.
func volumeMount(v flags.Volume) (oci.Mount, error) {
	if v.Named {
		return oci.Mount{}, fmt.Errorf("named volumes are not supported; give a host path (./%s): %w", v.Source, errdefs.ErrInvalidArgument)
	}
	if v.Source == "" {
		return v.Mount(""), nil
	}
	path, err := filepath.Abs(v.Source)
	if err != nil {
		return oci.Mount{}, fmt.Errorf("find host path: %w", err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil && !isFile(path) {
		return oci.Mount{}, fmt.Errorf("make host path: %w", err)
	}
	return v.Mount(path), nil
}

// isFile reports whether path is there and no directory: MkdirAll refuses it,
// and a single file may be shared too.
func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// existing is the absolute path of what must be there, as --mount asks.
func existing(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find host path: %w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("bind source path does not exist: %s: %w", path, errdefs.ErrInvalidArgument)
	}
	return path, nil
}
