package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// rival is an ordinary container runtime.
type rival struct {
	row    string
	binary string
	// flags come before the verb.
	flags  []string
	bundle string
	runs   int
}

// rivals prepares the runtimes that are installed and work here; why others
// are left out is noted in out.
func (l *lab) rivals(ctx context.Context, out *series) ([]*rival, error) {
	rootfs := l.path("rootfs")
	if err := l.unpack(ctx, rootfs); err != nil {
		return nil, err
	}
	var ready []*rival
	for _, r := range []*rival{{row: rowRunc}, {row: rowCrun}, {row: rowRunsc, flags: []string{"--network=none"}}} {
		if err := r.prepare(ctx, l.path("rivals", r.row), rootfs); err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			out.missing[r.row] = err.Error()
			continue
		}
		ready = append(ready, r)
	}
	return ready, nil
}

// prepare makes a bundle of the runtime's own default and tries it.
func (r *rival) prepare(ctx context.Context, dir, rootfs string) error {
	binary, err := exec.LookPath(r.row)
	if err != nil {
		return fmt.Errorf("%s is not installed", r.row)
	}
	r.binary, r.bundle = binary, filepath.Join(dir, "bundle")
	if err := os.MkdirAll(r.bundle, 0o700); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	r.flags = append([]string{"--root", filepath.Join(dir, "state")}, r.flags...)
	spec := exec.CommandContext(ctx, binary, "spec")
	spec.Dir = r.bundle
	if err := run(spec); err != nil {
		return err
	}
	if err := adaptSpec(filepath.Join(r.bundle, "config.json"), rootfs); err != nil {
		return err
	}
	_, err = r.run(ctx)
	return err
}

// adaptSpec makes a runtime's default spec run true in rootfs.
func adaptSpec(path, rootfs string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read spec: %w", err)
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return fmt.Errorf("read spec: %w", err)
	}
	process, ok := spec["process"].(map[string]any)
	if !ok {
		return fmt.Errorf("spec %s has no process", path)
	}
	process["args"], process["terminal"] = []string{"true"}, false
	spec["root"] = map[string]any{"path": rootfs, "readonly": true}
	return writeJSON(path, spec)
}

// run runs a container and returns how many seconds it took.
func (r *rival) run(ctx context.Context) (float64, error) {
	r.runs++
	id := "dougong-bench-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(r.runs)
	took, err := timed(exec.CommandContext(ctx, r.binary, r.args("run", "--bundle", r.bundle, id)...))
	if err != nil {
		// What was left half-made; mostly there is nothing.
		_ = exec.Command(r.binary, r.args("delete", "--force", id)...).Run()
	}
	return took, err
}

func (r *rival) args(args ...string) []string {
	return append(slices.Clip(r.flags), args...)
}

// unpack writes the image's layers over one another into a directory. Files
// that a later layer takes away stay, which is of no matter here.
func (l *lab) unpack(ctx context.Context, dir string) error {
	manifest, err := l.manifest()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	for _, layer := range manifest.Layers {
		if err := run(exec.CommandContext(ctx, "tar", "-x", "--numeric-owner", "-C", dir, "-f", l.blob(layer))); err != nil {
			return fmt.Errorf("unpack the image for other runtimes: %w", err)
		}
	}
	return nil
}

// blob is the path of a part of an image in the store.
func (l *lab) blob(desc ocispec.Descriptor) string {
	return l.path("storage", "oci", "blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded())
}

// manifest reads the image's manifest.
func (l *lab) manifest() (*ocispec.Manifest, error) {
	m := new(ocispec.Manifest)
	if err := readJSON(l.blob(ocispec.Descriptor{Digest: l.image.Digest}), m); err != nil {
		return nil, fmt.Errorf("read manifest of the image: %w", err)
	}
	return m, nil
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}
