package bench

import "slices"

// Summary is what is told of a series of readings.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Runs   int     `json:"runs"`
}

// summarize returns the zero Summary for no readings. The median of an even
// number of readings is the mean of the two in the middle.
func summarize(readings []float64) Summary {
	if len(readings) == 0 {
		return Summary{}
	}
	sorted := slices.Sorted(slices.Values(readings))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return Summary{Median: median, Min: sorted[0], Max: sorted[len(sorted)-1], Runs: len(sorted)}
}

// series collects readings by row.
type series struct {
	readings map[string][]float64
	// missing says why a row has no readings.
	missing map[string]string
}

func newSeries() *series {
	return &series{readings: make(map[string][]float64), missing: make(map[string]string)}
}

func (s *series) add(row string, reading float64) {
	s.readings[row] = append(s.readings[row], reading)
}
