package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
)

// intercept logs every call and gives errors the class that the host sees.
func intercept(ctx context.Context, u ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (any, error) {
	started := time.Now()
	response, err := method(ctx, u)
	if err != nil {
		slog.Info("call failed", "method", info.FullMethod, "took", time.Since(started), "error", err)
		return nil, errgrpc.ToGRPC(err)
	}
	slog.Debug("call", "method", info.FullMethod, "took", time.Since(started))
	return response, nil
}
