package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

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

// poolTime is how long a machine for the pool may take.
const poolTime = time.Minute

// awaitPool waits until a machine waits.
func (l *lab) awaitPool(ctx context.Context, config string) error {
	for begin := time.Now(); ; {
		out, err := l.dougong(ctx, "--config", config, "pool", "status", "--format", "json").Output()
		var status struct {
			Waiting []struct{}
			Trouble string
		}
		if err == nil {
			err = json.Unmarshal(out, &status)
		}
		switch {
		case err != nil:
			return fmt.Errorf("look at the pool: %w", err)
		case len(status.Waiting) > 0:
			return nil
		case time.Since(begin) > poolTime || ctx.Err() != nil:
			return fmt.Errorf("no machine waits in the pool: %s", status.Trouble)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// runFromPool is runTrue in a machine that waits. A container before it says
// which kind that has to be.
func (d *containerd) runFromPool(ctx context.Context, out *series) (err error) {
	config, err := d.lab.poolConfig()
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, run(d.lab.dougong(context.WithoutCancel(ctx), "--config", config, "pool", "stop")))
	}()
	if err := run(d.client(ctx, d.args(config, []string{"--rm"}, "true")...)); err != nil {
		return err
	}
	if err := d.lab.awaitPool(ctx, config); err != nil {
		return err
	}
	return d.runTrue(ctx, out, rowCtrPool, config)
}
