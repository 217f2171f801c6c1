package layer

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

func TestRatio(t *testing.T) {
	u := usage{limits: Limits{Ratio: 10}}
	tests := []struct {
		in, out int64
		ok      bool
	}{
		{1, ratioFree, true}, // small layers of zeros are common
		{ratioFree / 5, ratioFree + 1, true},
		{ratioFree / 10, ratioFree + 1, true},
		{ratioFree / 20, ratioFree + 1, false},
	}
	for _, test := range tests {
		if err := u.checkRatio(test.in, test.out); (err == nil) != test.ok {
			t.Errorf("%d bytes from %d: error %v", test.out, test.in, err)
		}
	}
}

// The stream itself must stop, not just the count.
func TestRatioStopsStream(t *testing.T) {
	u := &usage{limits: Limits{Ratio: 10}}
	o := &output{r: bytes.NewReader(make([]byte, 100)), in: &input{n: 5}, use: u, n: ratioFree}
	_, err := o.Read(make([]byte, 10))
	if le, ok := errors.AsType[*LimitError](err); !ok || le.Option != "storage.max_unpack_ratio" {
		t.Errorf("error %v, want one of limit storage.max_unpack_ratio", err)
	}
}

func TestSumsDoNotOverflow(t *testing.T) {
	u := usage{limits: Limits{FileBytes: 100}}
	for range 3 {
		if err := u.addFile(math.MaxInt64); err == nil {
			t.Error("sizes that overflow were taken")
		}
	}
	if err := u.addFile(100); err != nil {
		t.Errorf("what is just allowed: %v", err)
	}
}
