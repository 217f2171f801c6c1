package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/pelletier/go-toml/v2"
)

// poolConfig writes a configuration by which one machine waits in a pool.
func (l *lab) poolConfig() (string, error) {
	cfg := l.cfg
	cfg.Pool.Size = 1
	text, err := toml.Marshal(cfg)
	path := l.path("pool.toml")
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("write configuration to measure with: %w", err)
	}
	return path, nil
}

// runFromPool measures a start in a machine that waits. The pool is there for
// that one only: to make the next one would cost what is measured afterwards.
func (b *bench) runFromPool(ctx context.Context) (err error) {
	config, err := b.lab.poolConfig()
	if err != nil {
		return err
	}
	dougong := func(ctx context.Context, args ...string) *exec.Cmd {
		return b.lab.dougong(ctx, append([]string{"--config", config}, args...)...)
	}
	defer func() {
		err = errors.Join(err, run(dougong(context.WithoutCancel(ctx), "pool", "stop")))
	}()
	if err := run(dougong(ctx, "pool", "fill")); err != nil {
		return err
	}
	return b.start(dougong(ctx, "run", "--rm", "--timing=json", b.Image, "true"), poolRows)
}
