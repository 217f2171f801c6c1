package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// row judges one row beside a floor of 2 s.
func judged(t *testing.T, r Row, readings ...float64) Row {
	t.Helper()
	s := newSeries()
	s.add(rowFloor, 2)
	for _, reading := range readings {
		s.add(r.Name, reading)
	}
	return judge([]Row{{Name: rowFloor, Unit: Seconds}, r}, s)[1]
}

func TestVerdict(t *testing.T) {
	ratio := &Bound{Limit: 1.35, Of: rowFloor}
	for name, tt := range map[string]struct {
		bound   *Bound
		reading float64
		want    Verdict
	}{
		"below the most":             {atMost(5), 4.9, Kept},
		"just the most":              {atMost(5), 5, Kept},
		"above the most":             {atMost(5), 5.1, Over},
		"above the least":            {atLeast(5), 5.1, Kept},
		"below the least":            {atLeast(5), 4.9, Over},
		"below the floor's multiple": {ratio, 2.69, Kept},
		"above the floor's multiple": {ratio, 2.71, Over},
		"multiple of what is not":    {&Bound{Limit: 1, Of: "nothing"}, 9, ""},
		"below the floor and more":   {&Bound{Limit: 1, Plus: rowFloor}, 2.9, Kept},
		"above the floor and more":   {&Bound{Limit: 1, Plus: rowFloor}, 3.1, Over},
		"more than what is not":      {&Bound{Limit: 1, Plus: "nothing"}, 9, ""},
		"nothing promised":           {nil, 9, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := judged(t, Row{Name: "x", Unit: Seconds, Bound: tt.bound}, tt.reading)
			if got.Verdict != tt.want {
				t.Errorf("verdict %q, want %q", got.Verdict, tt.want)
			}
		})
	}
}

func TestMedianIsJudged(t *testing.T) {
	if got := judged(t, Row{Name: "x", Bound: atMost(5)}, 1, 1, 99); got.Verdict != Kept || got.Max != 99 {
		t.Errorf("%+v", got)
	}
}

func TestRatio(t *testing.T) {
	if got := judged(t, Row{Name: "x", RatioTo: rowFloor}, 3); got.Ratio != 1.5 {
		t.Errorf("ratio %v, want 1.5", got.Ratio)
	}
	if got := judged(t, Row{Name: "x", RatioTo: rowRunc}, 3); got.Ratio != 0 {
		t.Errorf("ratio %v to what was not measured", got.Ratio)
	}
}

func TestRowWithoutReadings(t *testing.T) {
	s := newSeries()
	s.missing[rowCrun] = "it is not installed"
	rows := judge([]Row{{Name: rowCrun, Bound: atMost(1)}, {Name: rowExec}}, s)
	if rows[0].Missing != "it is not installed" || rows[0].Verdict != "" || rows[1].Missing == "" {
		t.Errorf("%+v", rows)
	}
}

func TestPlan(t *testing.T) {
	names := map[string]Row{}
	for _, r := range allRows() {
		if _, twice := names[r.Name]; twice || r.About == "" || r.Unit == "" {
			t.Errorf("%+v", r)
		}
		names[r.Name] = r
	}
	for _, r := range allRows() {
		of := ""
		if r.Bound != nil {
			of = r.Bound.Of + r.Bound.Plus
		}
		for _, other := range []string{r.RatioTo, of} {
			if other != "" && names[other].Unit != r.Unit {
				t.Errorf("row %s is compared with %q", r.Name, other)
			}
		}
	}
}

// TestSpecification wants every promise of a row on the page of promises.
func TestSpecification(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "SPECIFICATION.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(page), "\n")
	for _, r := range allRows() {
		if r.Bound == nil {
			continue
		}
		if problem := promised(lines, r); problem != "" {
			t.Errorf("SPECIFICATION.md: %s", problem)
		}
	}
}

// promised looks for a line that names the row and its bound.
func promised(lines []string, r Row) string {
	for _, line := range lines {
		cells := strings.Split(line, "|")
		if !strings.Contains(line, "row `"+r.Name+"`") || len(cells) < 4 {
			continue
		}
		if strings.TrimSpace(cells[2]) == r.Bound.text(r.Unit) {
			return ""
		}
		return "row `" + r.Name + "` is promised " + strings.TrimSpace(cells[2]) + ", the code has " + r.Bound.text(r.Unit)
	}
	return "row `" + r.Name + "` is missing"
}

func TestPromised(t *testing.T) {
	row := Row{Name: "x", Unit: Seconds, Bound: atMost(0.25)}
	for line, ok := range map[string]bool{
		"| a | ≤ 0.25 s | 1 | `make bench`, row `x` |": true,
		"| a | ≤ 0.35 s | 1 | `make bench`, row `x` |": false,
		"| a | ≥ 0.25 s | 1 | `make bench`, row `x` |": false,
		"| a | ≤ 0.25 s | 1 | `make bench`, row `y` |": false,
	} {
		if got := promised([]string{line}, row); (got == "") != ok {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func TestBoundText(t *testing.T) {
	for want, tt := range map[string]struct {
		bound *Bound
		unit  Unit
	}{
		"":               {nil, Seconds},
		"≤ 0.25 s":       {atMost(0.25), Seconds},
		"≤ 140 MB":       {atMost(140), Megabytes},
		"≤ 30 MiB":       {atMost(30), Mebibytes},
		"≥ 150 MB/s":     {atLeast(150), Rate},
		"≤ 1.35 × floor": {&Bound{Limit: 1.35, Of: rowFloor}, Seconds},
		"≤ 1 s + floor":  {&Bound{Limit: 1, Plus: rowFloor}, Seconds},
	} {
		if diff := cmp.Diff(want, tt.bound.text(tt.unit)); diff != "" {
			t.Error(diff)
		}
	}
}
