package bench

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSummarize(t *testing.T) {
	for name, tt := range map[string]struct {
		readings []float64
		want     Summary
	}{
		"none":             {nil, Summary{}},
		"one":              {[]float64{7}, Summary{Median: 7, Min: 7, Max: 7, Runs: 1}},
		"an odd number":    {[]float64{9, 1, 5}, Summary{Median: 5, Min: 1, Max: 9, Runs: 3}},
		"an even number":   {[]float64{4, 1, 100, 2}, Summary{Median: 3, Min: 1, Max: 100, Runs: 4}},
		"equal ones":       {[]float64{2, 2, 2}, Summary{Median: 2, Min: 2, Max: 2, Runs: 3}},
		"negative numbers": {[]float64{-1, -3}, Summary{Median: -2, Min: -3, Max: -1, Runs: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(tt.readings)
			if diff := cmp.Diff(tt.want, summarize(tt.readings)); diff != "" {
				t.Errorf("summary (-want +got):\n%s", diff)
			}
			if !slices.Equal(before, tt.readings) {
				t.Errorf("readings became %v", tt.readings)
			}
		})
	}
}

func TestOneOutlierDoesNotMoveTheMedianFar(t *testing.T) {
	calm := []float64{1, 1.1, 0.9, 1, 1.05, 0.95, 1, 1, 1.02, 0.98}
	if got := summarize(append(calm, 50)).Median; got < 0.9 || got > 1.1 {
		t.Errorf("median %v", got)
	}
}
