package bench

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// Measures of the chart, in its own units.
const (
	chartWidth  = 860
	chartLeft   = 190
	chartRight  = 70
	chartTop    = 64
	barHeight   = 22
	barPitch    = 34
	legendPitch = 18
)

// chartRows are drawn where they were measured, in this order.
var chartRows = []struct{ row, label string }{
	{rowCrun, "crun run"},
	{rowRunc, "runc run"},
	{rowRunsc, "runsc run (gVisor)"},
	{rowPool, "dougong run, pool"},
	{rowClone, "dougong run"},
	{rowRun, "dougong run, cold"},
}

// palette colours the phases one after the other. All are of a middle
// lightness, to be seen on white and on black.
var palette = []string{"#4477aa", "#66a5c9", "#228833", "#ccbb44", "#ee8866", "#aa3377", "#8888bb", "#44aa99", "#cc6677", "#888888", "#b07d2b"}

// colours gives a phase the same colour in every bar.
type colours struct {
	of    map[string]string
	order []string
}

func (c *colours) get(name string) string {
	if c.of[name] == "" {
		c.of[name] = palette[len(c.order)%len(palette)]
		c.order = append(c.order, name)
	}
	return c.of[name]
}

// WriteChart draws how long a container that runs true takes from the command
// to its end, for each runtime, as an SVG picture that is readable on light
// and on dark pages.
func (r *Report) WriteChart(w io.Writer) error {
	medians, starts := map[string]float64{}, map[string]Start{}
	for _, row := range r.Rows {
		medians[row.Name] = row.Median
	}
	for _, s := range r.Starts {
		starts[s.Row] = s
	}
	var body strings.Builder
	longest, y := 0.0, chartTop
	for _, c := range chartRows {
		longest = math.Max(longest, medians[c.row])
	}
	if longest == 0 {
		return fmt.Errorf("draw chart: no start was measured")
	}
	scale := (chartWidth - chartLeft - chartRight) / longest
	seen := &colours{of: map[string]string{}}
	for _, c := range chartRows {
		if medians[c.row] == 0 {
			continue
		}
		drawRow(&body, y, c.label, medians[c.row], segments(starts[c.row], medians[c.row]), scale, seen)
		y += barPitch
	}
	y = drawLegend(&body, y+8, seen)
	return r.writeSVG(w, body.String(), y+14)
}

// segment is a piece of a bar.
type segment struct {
	name string
	took float64
}

// segments cuts a start into pieces that follow each other: the phases of the
// sandbox, and around them those of the command. What lies between is no
// phase's; it stays as a piece without a name.
func segments(s Start, whole float64) []segment {
	var list []segment
	last := 0.0
	inner := hasInner(s)
	for _, p := range s.Phases {
		// The sandbox's own phases say more than the command's wait for them,
		// and the guest's overlap with the host's.
		if p.Depth > 1 || p.Depth == 0 && p.Name == "container" && inner || p.Name == "first byte" {
			continue
		}
		if p.At > last {
			list = append(list, segment{"", p.At - last})
			last = p.At
		}
		if end := p.At + p.Took; end > last {
			list = append(list, segment{p.Name, end - last})
			last = end
		}
	}
	if whole > last {
		list = append(list, segment{"", whole - last})
	}
	return list
}

func hasInner(s Start) bool {
	for _, p := range s.Phases {
		if p.Depth == 1 {
			return true
		}
	}
	return false
}

func drawRow(b *strings.Builder, y int, label string, median float64, parts []segment, scale float64, seen *colours) {
	fmt.Fprintf(b, `  <text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", chartLeft-10, y+16, escapeXML(label))
	x := float64(chartLeft)
	for _, p := range parts {
		fill := "#9a9a9a"
		if p.name != "" {
			fill = seen.get(p.name)
		}
		width := p.took * scale
		fmt.Fprintf(b, `  <rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"><title>%s %.0f ms</title></rect>`+"\n",
			x, y, width, barHeight, fill, escapeXML(p.name), p.took*1000)
		x += width
	}
	fmt.Fprintf(b, `  <text x="%.1f" y="%d" class="figure">%.3f s</text>`+"\n", x+8, y+16, median)
}

// drawLegend names the colours, some to a line, and returns where it ends.
func drawLegend(b *strings.Builder, y int, seen *colours) int {
	const columns = 6
	for i, name := range seen.order {
		x, line := chartLeft+(i%columns)*105, y+(i/columns)*legendPitch
		fmt.Fprintf(b, `  <rect x="%d" y="%d" width="10" height="10" fill="%s"/><text x="%d" y="%d" class="small">%s</text>`+"\n",
			x, line, seen.of[name], x+15, line+9, escapeXML(name))
	}
	return y + (len(seen.order)+columns-1)/columns*legendPitch
}

// style takes the page's colours: a picture in a page follows the reader's
// preference, and one on its own has the light ones.
const style = `  <style>
    text { font: 14px system-ui, "DejaVu Sans", Arial, sans-serif; fill: #1f2328; }
    .head { font-weight: 600; } .small { font-size: 12px; } .figure { font-variant-numeric: tabular-nums; }
    @media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
  </style>
`

func (r *Report) writeSVG(w io.Writer, body string, height int) error {
	m := r.Machine
	title := "A container that runs true, from the command to its end"
	about := fmt.Sprintf("medians of %d runs, %d cores, QEMU %s with %s, guest kernel %s", r.Runs, m.Cores, m.QEMU, m.Accelerator, m.GuestKernel)
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" aria-labelledby="title">
  <title id="title">%[3]s</title>
%[4]s  <text x="10" y="24" class="head">%[3]s</text>
  <text x="10" y="44" class="small">%[5]s</text>
%[6]s</svg>
`, chartWidth, height, title, style, escapeXML(about), body)
	if err != nil {
		return fmt.Errorf("draw chart: %w", err)
	}
	return nil
}

func escapeXML(s string) string {
	var b strings.Builder
	// A strings.Builder takes everything.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}
