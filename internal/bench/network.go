package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Rows of the network: by a tap that is QEMU's alone, and by an interface of a
// network namespace that is redirected to one.
const (
	rowTapIn   = "tap in"
	rowNetIn   = "net in"
	rowTapOut  = "tap out"
	rowNetOut  = "net out"
	rowTapPing = "tap ping"
	rowNetPing = "net ping"
)

// networkPlan lists the rows of the network.
func networkPlan() []Row {
	least := func(of string) *Bound { return &Bound{Limit: 0.8, AtLeast: true, Of: of} }
	return []Row{
		{Name: rowTapIn, Unit: Rate, About: "iperf3 from the host into a guest, by the tap that QEMU has, with an address of its own"},
		{Name: rowNetIn, Unit: Rate, About: "the same into a network namespace, by a veth that is redirected to the same kind of tap", RatioTo: rowTapIn, Bound: least(rowTapIn)},
		{Name: rowTapOut, Unit: Rate, About: "iperf3 from a guest to the host, by the tap alone"},
		{Name: rowNetOut, Unit: Rate, About: "the same out of a network namespace", RatioTo: rowTapOut, Bound: least(rowTapOut)},
		{Name: rowTapPing, Unit: Milliseconds, About: "round trip of a ping into a guest, by the tap alone"},
		{Name: rowNetPing, Unit: Milliseconds, About: "the same into a network namespace", RatioTo: rowTapPing, Bound: &Bound{Limit: 1.2, Of: rowTapPing}},
	}
}

const (
	// networkRuns is the most readings of the network that are taken.
	networkRuns = 10
	// transferTime is how long a reading of a rate takes, in seconds.
	transferTime = 1
	// pings are sent for each reading of a round trip, which is their median.
	pings = 40
	// serverTime is how long a server may take to be ready.
	serverTime = 30 * time.Second
)

// errNoTool says that a host lacks a program to measure with, which is no
// failure.
var errNoTool = errors.New("not installed")

// network measures two guests in turns, one of them with a plain tap.
func (b *bench) network(ctx context.Context) (err error) {
	n, err := b.lab.newNetLab(ctx)
	if errors.Is(err, errNoTool) {
		b.out.lack(networkPlan(), err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, n.close()) }()
	runs := min(b.Runs, networkRuns)
	for i := range runs + 1 {
		b.say("network, round %d of %d", i, runs)
		out := b.out
		if i == 0 {
			// To warm up.
			out = newSeries()
		}
		for _, w := range n.wires {
			if err := n.measure(ctx, w, out); err != nil {
				return fmt.Errorf("measure the network of %s: %w", w.id, err)
			}
		}
	}
	return nil
}

// lack says why none of some rows was measured.
func (s *series) lack(rows []Row, err error) {
	for _, r := range rows {
		s.missing[r.Name] = err.Error()
	}
}

// measure takes one reading of each kind.
func (n *netLab) measure(ctx context.Context, w *wire, out *series) error {
	in, err := n.transfer(ctx, w)
	if err != nil {
		return err
	}
	back, err := n.transfer(ctx, w, "--reverse")
	if err != nil {
		return err
	}
	trip, err := n.roundTrip(ctx, w)
	if err != nil {
		return err
	}
	out.add(w.in, in)
	out.add(w.out, back)
	out.add(w.ping, trip)
	return nil
}

// transfer returns a rate in MB/s. The server takes one client at a time, and a
// moment until it takes the next.
func (n *netLab) transfer(ctx context.Context, w *wire, flags ...string) (float64, error) {
	args := append([]string{"--client", w.address, "--time", strconv.Itoa(transferTime), "--json", "--connect-timeout", "5000"}, flags...)
	for begin := time.Now(); ; <-time.After(50 * time.Millisecond) {
		said, err := n.outsideOutput(exec.CommandContext(ctx, n.iperf, args...))
		rate, parseErr := iperfRate(said)
		if err = errors.Join(err, parseErr); err == nil {
			return rate, nil
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if time.Since(begin) > serverTime {
			return 0, err
		}
	}
}

// iperfRate reads what iperf3 has to say as JSON.
func iperfRate(said []byte) (float64, error) {
	var result struct {
		Error string
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(said, &result); err != nil {
		return 0, fmt.Errorf("iperf3 says %.100q: %w", said, err)
	}
	if result.Error != "" || !(result.End.Received.Rate > 0) {
		return 0, fmt.Errorf("iperf3 measured nothing: %s", result.Error)
	}
	return result.End.Received.Rate / 8 / megabyte, nil
}

// roundTrip returns the median of some pings in milliseconds.
func (n *netLab) roundTrip(ctx context.Context, w *wire) (float64, error) {
	said, err := n.outsideOutput(exec.CommandContext(ctx, n.ping, "-n", "-c", strconv.Itoa(pings), "-i", "0.01", "-W", "10", w.address))
	if err != nil {
		return 0, err
	}
	trips := pingTrips(string(said))
	if len(trips) != pings {
		return 0, fmt.Errorf("%d of %d pings were answered", len(trips), pings)
	}
	return summarize(trips).Median, nil
}

// pingTrips are the round trips in ping's lines, in milliseconds.
func pingTrips(said string) []float64 {
	var trips []float64
	for line := range strings.Lines(said) {
		_, rest, ok := strings.Cut(line, " time=")
		if !ok {
			continue
		}
		text, _, _ := strings.Cut(rest, " ")
		if trip, err := strconv.ParseFloat(text, 64); err == nil {
			trips = append(trips, trip)
		}
	}
	return trips
}
