package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"dougong.dev/dougong/internal/timeline"
)

// Start is where the time of one row's commands went.
type Start struct {
	Row    string  `json:"row"`
	Phases []Phase `json:"phases"`
}

// Phase is one part of a start, in medians of all runs, in seconds.
type Phase struct {
	Name  string  `json:"name"`
	Depth int     `json:"depth,omitempty"`
	At    float64 `json:"at"`
	Took  float64 `json:"took"`
}

// phases collects the timelines of one row's commands.
type phases struct {
	row   string
	runs  int
	order []string
	parts map[string]*phaseReadings
}

type phaseReadings struct {
	depth    int
	at, took []float64
}

// add takes the timeline of one more command.
func (p *phases) add(spans []timeline.Span) {
	p.runs++
	begin, _ := timeline.Bounds(spans)
	for _, s := range timeline.Sort(spans) {
		r := p.parts[s.Name]
		if r == nil {
			r = &phaseReadings{depth: s.Depth}
			p.parts[s.Name], p.order = r, append(p.order, s.Name)
		}
		r.at, r.took = append(r.at, s.Begin.Sub(begin).Seconds()), append(r.took, s.Took().Seconds())
	}
}

// start is what most of the commands went through; a phase that fewer had,
// such as the making of a template, is left out.
func (p *phases) start() Start {
	out := Start{Row: p.row}
	for _, name := range p.order {
		r := p.parts[name]
		if 2*len(r.took) > p.runs {
			out.Phases = append(out.Phases, Phase{Name: name, Depth: r.depth, At: summarize(r.at).Median, Took: summarize(r.took).Median})
		}
	}
	return out
}

// spans is the start as a timeline that can be drawn.
func (s Start) spans() []timeline.Span {
	var spans []timeline.Span
	var zero time.Time
	for _, p := range s.Phases {
		begin := zero.Add(seconds(p.At))
		spans = append(spans, timeline.Span{Name: p.Name, Depth: p.Depth, Begin: begin, End: begin.Add(seconds(p.Took))})
	}
	return spans
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// timedPhases runs a dougong command with --timing=json and returns its
// timeline and how many seconds it took.
func timedPhases(cmd *exec.Cmd) ([]timeline.Span, float64, error) {
	var said strings.Builder
	cmd.Stderr = &said
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin).Seconds()
	if err != nil {
		return nil, 0, failure(cmd, err, said.String())
	}
	var spans []timeline.Span
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &spans); err != nil {
		return nil, 0, fmt.Errorf("read timing of %s: %w", cmd.Path, err)
	}
	return spans, took, nil
}

// startRows are the rows that one kind of start fills: the whole command, from
// the first phase of its machine to the agent's answer, and from the repaired
// guest to the started process.
type startRows struct {
	whole, agent, create string
	// first are the phases in which the machine may begin.
	first []string
}

var (
	coldRows  = startRows{whole: rowRun, agent: rowRunAgent, first: []string{"spawn"}}
	cloneRows = startRows{whole: rowClone, agent: rowCloneAgent, create: rowCloneCreate, first: []string{"thaw", "spawn"}}
	poolRows  = startRows{whole: rowPool, agent: rowPoolAgent, create: rowPoolCreate, first: []string{"claim"}}
)

// run measures a whole 'dougong run' and its parts.
func (b *bench) run(ctx context.Context, rows startRows, flags ...string) error {
	args := append(append([]string{"run", "--rm", "--timing=json"}, flags...), b.Image, "true")
	return b.start(b.lab.dougong(ctx, args...), rows)
}

func (b *bench) start(cmd *exec.Cmd, rows startRows) error {
	spans, took, err := timedPhases(cmd)
	if err != nil {
		return err
	}
	parts, err := partsOf(spans, rows.first...)
	if err != nil {
		return err
	}
	b.out.add(rows.whole, took)
	b.starts[rows.whole].add(spans)
	b.out.add(rows.agent, parts.agent)
	if rows.create != "" {
		b.out.add(rows.create, parts.container)
	}
	return nil
}

// parts are the times within a start that have rows of their own, in seconds.
type parts struct{ agent, container float64 }

// partsOf takes the first of those phases that there is.
func partsOf(spans []timeline.Span, firsts ...string) (parts, error) {
	first := ""
	found := map[string]timeline.Span{}
	for _, s := range spans {
		found[s.Name] = s
	}
	for _, name := range firsts {
		if first == "" || found[first].Begin.IsZero() {
			first = name
		}
	}
	for _, name := range []string{first, "agent", "configure", "start"} {
		if found[name].Begin.IsZero() {
			return parts{}, fmt.Errorf("the timing of a start has no phase %q: %v", name, spans)
		}
	}
	return parts{
		agent:     found["agent"].End.Sub(found[first].Begin).Seconds(),
		container: found["start"].End.Sub(found["configure"].End).Seconds(),
	}, nil
}

// newStarts makes a place for the timelines of rows.
func newStarts(rows ...string) map[string]*phases {
	all := make(map[string]*phases)
	for _, row := range rows {
		all[row] = &phases{row: row, parts: make(map[string]*phaseReadings)}
	}
	return all
}
