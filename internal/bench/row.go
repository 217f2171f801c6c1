package bench

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Unit is what a row counts.
type Unit string

// Units. A megabyte is a million bytes; binaries are measured as their
// budgets are written, in MiB.
const (
	Seconds      Unit = "s"
	Milliseconds Unit = "ms"
	Megabytes    Unit = "MB"
	Mebibytes    Unit = "MiB"
	Rate         Unit = "MB/s"
)

const (
	megabyte = 1_000_000
	mebibyte = 1 << 20
)

// Bound is a promise of SPECIFICATION.md.
type Bound struct {
	// Limit is the most, or with AtLeast the least, that the median may be:
	// in the row's unit, or, where Of names a row, times that row's median, or,
	// where Plus names one, on top of that.
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"atLeast,omitempty"`
	Of      string  `json:"of,omitempty"`
	Plus    string  `json:"plus,omitempty"`
}

// Verdict says whether a promise is kept.
type Verdict string

// The verdicts of a row with a bound; Over is for either direction.
const (
	Kept Verdict = "ok"
	Over Verdict = "over"
)

// Row is one line of the result.
type Row struct {
	Name string `json:"name"`
	// About says what is measured.
	About string `json:"about"`
	Unit  Unit   `json:"unit"`
	Summary
	// Ratio is the median over that of the row RatioTo.
	Ratio   float64 `json:"ratio,omitempty"`
	RatioTo string  `json:"ratioTo,omitempty"`
	Bound   *Bound  `json:"bound,omitempty"`
	Verdict Verdict `json:"verdict,omitempty"`
	// Missing says why there are no readings.
	Missing string `json:"missing,omitempty"`
}

// Names of rows, as SPECIFICATION.md has them.
const (
	rowFloor       = "floor"
	rowRun         = "run"
	rowClone       = "run clone"
	rowPool        = "run pool"
	rowRunAgent    = "agent"
	rowCloneAgent  = "agent clone"
	rowPoolAgent   = "agent pool"
	rowCreate      = "create+start"
	rowAgain       = "create+start again"
	rowCloneCreate = "create+start clone"
	rowPoolCreate  = "create+start pool"
	rowExec        = "exec"
	rowRunc        = "runc"
	rowCrun        = "crun"
	rowRunsc       = "runsc"
	rowIdle        = "idle PSS"
	rowIdleBooted  = "idle PSS booted"
	rowManyStart   = "clones start"
	rowManyPSS     = "clones PSS"
	rowShimPSS     = "shim PSS"
	rowQEMUPSS     = "QEMU PSS"
	rowAgentRSS    = "agent RSS"
	rowInitramfs   = "initramfs"
	rowDougong     = "dougong size"
	rowShim        = "shim size"
	rowAgent       = "agent size"
	rowReadImage   = "read image"
	rowReadShare   = "read share"
	rowStdin       = "stdin"
	rowStdout      = "stdout"
	rowBothStreams = "cat"
)

func atMost(limit float64) *Bound  { return &Bound{Limit: limit} }
func atLeast(limit float64) *Bound { return &Bound{Limit: limit, AtLeast: true} }

// plan lists the rows in the order of the table, with what they are compared
// to and what is promised.
func plan() []Row {
	return []Row{
		{Name: rowFloor, Unit: Seconds, About: "bare QEMU, same kernel, initramfs and machine, from its start to the agent's ready signal"},
		{Name: rowRun, Unit: Seconds, About: "dougong run --rm --no-template IMAGE true, the whole command", RatioTo: rowFloor, Bound: &Bound{Limit: 1.35, Of: rowFloor}},
		{Name: rowClone, Unit: Seconds, About: "dougong run --rm IMAGE true, the machine a clone of a saved one", RatioTo: rowFloor, Bound: atMost(0.35)},
		{Name: rowPool, Unit: Seconds, About: "the same, the machine one that has waited in the pool", RatioTo: rowFloor, Bound: atMost(0.18)},
		{Name: rowRunAgent, Unit: Seconds, About: "of a cold start, from the start of QEMU to the agent's answer", RatioTo: rowFloor},
		{Name: rowCloneAgent, Unit: Seconds, About: "the same of a clone", RatioTo: rowFloor, Bound: atMost(0.10)},
		{Name: rowPoolAgent, Unit: Seconds, About: "of a machine of the pool, from the claim to the agent's answer", RatioTo: rowFloor},
		{Name: rowCreate, Unit: Seconds, About: "create and start of the first container in a guest", RatioTo: rowRunc, Bound: atMost(0.25)},
		{Name: rowCloneCreate, Unit: Seconds, About: "the same in a clone, from the repaired guest to the started process", RatioTo: rowRunc, Bound: atMost(0.12)},
		{Name: rowPoolCreate, Unit: Seconds, About: "the same in a machine of the pool", RatioTo: rowRunc},
		{Name: rowAgain, Unit: Seconds, About: "create and start of a second container in that guest", RatioTo: rowRunc, Bound: atMost(0.25)},
		{Name: rowExec, Unit: Seconds, About: "dougong exec CONTAINER true, the whole command", RatioTo: rowRunc, Bound: atMost(0.15)},
		{Name: rowRunc, Unit: Seconds, About: "runc run of true in the same root file system"},
		{Name: rowCrun, Unit: Seconds, About: "crun run of true in the same root file system", RatioTo: rowRunc},
		{Name: rowRunsc, Unit: Seconds, About: "runsc run of true in the same root file system", RatioTo: rowRunc},
		{Name: rowIdle, Unit: Megabytes, About: "all processes on the host of one idle sandbox of 256 MiB, a clone of a saved one", Bound: atMost(140)},
		{Name: rowIdleBooted, Unit: Megabytes, About: "the same of one that was booted", Bound: atMost(140)},
		{Name: rowShimPSS, Unit: Megabytes, About: "of the first that is the sandbox process", Bound: atMost(20)},
		{Name: rowQEMUPSS, Unit: Megabytes, About: "of the first that is QEMU with the guest's memory"},
		{Name: rowManyStart, Unit: Seconds, About: "to start the clones of --clones, each of 256 MiB, as many at a time as there are CPUs", Bound: atMost(25)},
		{Name: rowManyPSS, Unit: Megabytes, About: "all processes on the host of one of them, idle, on average", Bound: atMost(60)},
		{Name: rowAgentRSS, Unit: Megabytes, About: "agent in the guest after its first container", Bound: atMost(15)},
		{Name: rowInitramfs, Unit: Megabytes, About: "initramfs", Bound: atMost(20)},
		{Name: rowDougong, Unit: Mebibytes, About: "binary of the command", Bound: atMost(30)},
		{Name: rowShim, Unit: Mebibytes, About: "binary of the sandbox process", Bound: atMost(12)},
		{Name: rowAgent, Unit: Mebibytes, About: "binary of the agent", Bound: atMost(12)},
		{Name: rowReadImage, Unit: Rate, About: "dd of a file of 256 MiB in the image, nothing cached in the guest", Bound: atLeast(150)},
		{Name: rowReadShare, Unit: Rate, About: "dd of a file of 256 MiB in a shared directory, nothing cached in the guest", Bound: atLeast(150)},
		{Name: rowStdin, Unit: Rate, About: "dougong exec -i … cat >/dev/null, 64 MiB"},
		{Name: rowStdout, Unit: Rate, About: "dougong exec … dd if=/dev/zero, 64 MiB"},
		{Name: rowBothStreams, Unit: Rate, About: "dougong exec -i … cat, 64 MiB in and out at once"},
	}
}

// allRows are those of every plan, in the order of the table.
func allRows() []Row {
	return slices.Concat(plan(), ociPlan(), containerdPlan(), podsPlan(), networkPlan())
}

// judge fills the planned rows with readings and compares them.
func judge(rows []Row, s *series) []Row {
	medians := make(map[string]float64)
	for i := range rows {
		r := &rows[i]
		r.Summary = summarize(s.readings[r.Name])
		medians[r.Name] = r.Median
		if r.Runs == 0 {
			r.Missing = s.missing[r.Name]
			if r.Missing == "" {
				r.Missing = "not measured"
			}
		}
	}
	for i := range rows {
		rows[i].compare(medians)
	}
	return rows
}

func (r *Row) compare(medians map[string]float64) {
	if r.Runs == 0 {
		return
	}
	if other := medians[r.RatioTo]; other > 0 {
		r.Ratio = r.Median / other
	}
	if r.Bound == nil {
		return
	}
	limit, ok := r.Bound.limit(medians)
	if !ok {
		return
	}
	r.Verdict = Kept
	if r.Bound.AtLeast && r.Median < limit || !r.Bound.AtLeast && r.Median > limit {
		r.Verdict = Over
	}
}

// limit is the bound in the row's unit, false where there is nothing to compare
// with.
func (b *Bound) limit(medians map[string]float64) (float64, bool) {
	switch {
	case b.Of != "":
		return b.Limit * medians[b.Of], medians[b.Of] != 0
	case b.Plus != "":
		return b.Limit + medians[b.Plus], medians[b.Plus] != 0
	}
	return b.Limit, true
}

// text is the promise as SPECIFICATION.md has it.
func (b *Bound) text(unit Unit) string {
	if b == nil {
		return ""
	}
	sign := "≤"
	if b.AtLeast {
		sign = "≥"
	}
	if b.Of != "" {
		return fmt.Sprintf("%s %.2f × %s", sign, b.Limit, b.Of)
	}
	if b.Plus != "" {
		return fmt.Sprintf("%s %s %s + %s", sign, strconv.FormatFloat(b.rounded(), 'f', -1, 64), unit, b.Plus)
	}
	return fmt.Sprintf("%s %s %s", sign, strconv.FormatFloat(b.rounded(), 'f', -1, 64), unit)
}

// rounded is the limit in at most two decimals, and one from ten on.
func (b *Bound) rounded() float64 {
	if b.Limit >= 10 {
		return math.Round(b.Limit*10) / 10
	}
	return math.Round(b.Limit*100) / 100
}

// quantity writes a number with its unit and about three digits.
func quantity(v float64, unit Unit) string {
	switch {
	case unit == Seconds:
		return fmt.Sprintf("%.3f s", v)
	case unit == Milliseconds:
		return fmt.Sprintf("%.2f ms", v)
	case v < 100:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}
