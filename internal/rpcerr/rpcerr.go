// Package rpcerr carries errors and their errdefs class over ttrpc.
//
// It must not know what the errors are about.
package rpcerr

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Client is an interceptor that gives errors of the peer their errdefs class
// back, without the words that the transport adds. A peer that is gone is
// errdefs.ErrUnavailable. The client itself looks at
// the response's status only after its interceptors.
func Client(ctx context.Context, req *ttrpc.Request, resp *ttrpc.Response, _ *ttrpc.UnaryClientInfo, invoke ttrpc.Invoker) error {
	if err := invoke(ctx, req, resp); err != nil {
		if errors.Is(err, ttrpc.ErrClosed) {
			return fmt.Errorf("the connection was closed: %w", errdefs.ErrUnavailable)
		}
		return errgrpc.ToNative(err)
	}
	if resp.Status != nil && codes.Code(resp.Status.Code) != codes.OK {
		return errgrpc.ToNative(status.ErrorProto(resp.Status))
	}
	return nil
}

// flat is an error's text and class without its parts.
type flat struct {
	text  string
	class error
}

func (f flat) Error() string { return f.text }
func (f flat) Unwrap() error { return f.class }

// Server makes of an error what travels over ttrpc: its text and its class.
// Its parts stay here. errgrpc would send those of a joined error along, each
// with its text once more, and panics when one of them wraps nothing.
func Server(err error) error {
	if err == nil {
		return nil
	}
	return errgrpc.ToGRPC(flat{text: err.Error(), class: errdefs.Resolve(err)})
}
