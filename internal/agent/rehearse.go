package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dougong.dev/dougong/internal/transport"
)

// Rehearse connects to an agent that is up, for as long as play runs, and then
// waits until the agent is up as it was before: the line can be given to
// another, who connects to it. After an error the line is of no use.
func Rehearse(ctx context.Context, line Line, play func(context.Context, *Client) error) error {
	stop := context.AfterFunc(ctx, func() { _ = line.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := rehearse(ctx, line, play)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("rehearse in the guest: %w", err)
	}
	return nil
}

func rehearse(ctx context.Context, line Line, play func(context.Context, *Client) error) error {
	r := transport.NewRehearsal(line)
	c := &Client{session: transport.NewHost(r)}
	err := c.connect(ctx, func() error { return transport.BeginRehearsal(line) })
	if err == nil {
		err = play(ctx, c)
	}
	if err = errors.Join(err, c.Close(), r.End()); err != nil {
		return err
	}
	return transport.AwaitLine(line)
}
