package shim

import (
	"context"
	"log/slog"
	"time"

	"github.com/containerd/ttrpc"

	"dougong.dev/dougong/internal/rpcerr"
)

// intercept gives every call its log line and turns errors into what travels
// over ttrpc.
func intercept(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, handle ttrpc.Method) (any, error) {
	begin := time.Now()
	resp, err := handle(ctx, unmarshal)
	level := slog.LevelDebug
	if err != nil {
		level = slog.LevelInfo
	}
	slog.Log(ctx, level, "call", "method", info.FullMethod, "took", time.Since(begin), "error", err)
	if err != nil {
		return nil, rpcerr.Server(err)
	}
	return resp, nil
}
