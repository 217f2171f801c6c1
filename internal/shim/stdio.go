package shim

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/containerd/fifo"

	"dougong.dev/dougong/internal/containerlog"
	"dougong.dev/dougong/internal/sandbox"
)

// URIs name the files behind a process's stdio: a path or fifo:// for a FIFO,
// file:// for a file that is appended to, binary:// for a program that takes
// the output, log:// for a container log with time and stream of each line.
// Empty ones are not connected.
type URIs struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
	// Namespace and Container are told to a program that takes output.
	Namespace, Container string
}

// OpenStdio opens what the URIs name. It waits until the reader of a FIFO is
// there, or ctx ends.
func OpenStdio(ctx context.Context, u URIs) (sandbox.Stdio, error) {
	var stdio sandbox.Stdio
	err := openInput(u.Stdin, &stdio)
	if err == nil {
		err = openOutputs(ctx, u, &stdio)
	}
	if err != nil {
		stdio.Close()
		return sandbox.Stdio{}, err
	}
	return stdio, nil
}

func openOutputs(ctx context.Context, u URIs, stdio *sandbox.Stdio) error {
	if strings.HasPrefix(u.Stdout, "binary://") || strings.HasPrefix(u.Stdout, "binary-v2://") {
		program, err := url.Parse(u.Stdout)
		if err != nil {
			return fmt.Errorf("stdio %q: %w: %w", u.Stdout, err, errdefs.ErrInvalidArgument)
		}
		if stdio.Stdout, stdio.Stderr, err = startLogger(program, u.Namespace, u.Container); err != nil {
			return err
		}
		if u.Terminal || u.Stderr == "" {
			err := stdio.Stderr.Close()
			stdio.Stderr = nil
			return err
		}
		return nil
	}
	var err error
	if stdio.Stdout, err = openOutput(ctx, u.Stdout, "stdout"); err == nil && !u.Terminal {
		stdio.Stderr, err = openOutput(ctx, u.Stderr, "stderr")
	}
	return err
}

// openInput checks that there is something to read from; see input.
func openInput(uri string, stdio *sandbox.Stdio) error {
	if uri == "" {
		return nil
	}
	_, path, err := parse(uri)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("open standard input: %w", err)
	}
	in := &input{path: path}
	stdio.Stdin, stdio.EndInput = in, in.EndInput
	return nil
}

func openOutput(ctx context.Context, uri, stream string) (io.WriteCloser, error) {
	if uri == "" {
		return nil, nil
	}
	scheme, path, err := parse(uri)
	if err != nil {
		return nil, err
	}
	switch scheme {
	case "fifo":
		return openOutputFIFO(ctx, path)
	case "file":
		return orNil(os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600))
	case "log":
		return orNil(containerlog.Open(path, stream))
	}
	return nil, fmt.Errorf("stdio %q: scheme %q: %w", uri, scheme, errdefs.ErrNotImplemented)
}

// orNil keeps the nil pointer that comes with an error from becoming an end
// that looks connected.
func orNil[T io.WriteCloser](w T, err error) (io.WriteCloser, error) {
	if err != nil {
		return nil, err
	}
	return w, nil
}

// output is a FIFO whose reader may come and go: holding a reading end too
// keeps writes from failing while nobody reads.
type output struct {
	io.WriteCloser
	reader io.Closer
}

func openOutputFIFO(ctx context.Context, path string) (io.WriteCloser, error) {
	w, err := fifo.OpenFifo(ctx, path, syscall.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open standard output: %w", err)
	}
	r, err := fifo.OpenFifo(context.WithoutCancel(ctx), path, syscall.O_RDONLY, 0)
	if err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("open standard output: %w", err)
	}
	return &output{WriteCloser: w, reader: r}, nil
}

// Close closes both ends; a present reader gets what is still in the FIFO.
func (o *output) Close() error {
	err := o.WriteCloser.Close()
	_ = o.reader.Close()
	return err
}

func parse(uri string) (scheme, path string, err error) {
	if uri[0] == '/' {
		return "fifo", uri, nil
	}
	u, err := url.Parse(uri)
	if err != nil {
		return "", "", fmt.Errorf("stdio %q: %w: %w", uri, err, errdefs.ErrInvalidArgument)
	}
	return u.Scheme, u.Path, nil
}
