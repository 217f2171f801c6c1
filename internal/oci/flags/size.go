package flags

import (
	"math"
	"strconv"
	"strings"
)

// maxSizeText is more than any number of bytes takes.
const maxSizeText = 32

// ParseSize reads a number of bytes with an optional unit of 1024: b, k, m, g,
// t, also written kb or KiB, in any case: "512m", "1.5g", "1073741824".
func ParseSize(s string) (int64, error) {
	if len(s) > maxSizeText {
		return 0, invalid("size %.16q… is not understood: write it like 512m or 1g", s)
	}
	text := strings.ToLower(strings.TrimSpace(s))
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	shift, ok := map[string]int{
		"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30, "t": 40, "tb": 40, "tib": 40,
	}[text[len(digits):]]
	if !ok || strings.Trim(digits, "0123456789.") != "" {
		return 0, invalid("size %q is not understood: write it like 512m or 1g", s)
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n <= math.MaxInt64>>shift {
		return n << shift, nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if f *= float64(int64(1) << shift); err != nil || f >= math.MaxInt64 {
		return 0, invalid("size %q is not understood or too large: write it like 512m or 1g", s)
	}
	return int64(f), nil
}

// ParseCPUs reads a number of CPUs: "2", "0.5". 0 is no limit.
func ParseCPUs(s string) (float64, error) {
	if s == "" || strings.Trim(s, "0123456789.") != "" {
		return 0, invalid("CPUs %q is not a number like 2 or 0.5", s)
	}
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil:
		return 0, invalid("CPUs %q is not a number like 2 or 0.5", s)
	case f > 0 && f < 0.01:
		return 0, invalid("CPUs %q is too little: the least is 0.01", s)
	case f > maxCPUs:
		return 0, invalid("CPUs %q is too much: the most is %d", s, maxCPUs)
	}
	return f, nil
}

// maxCPUs is far above any machine; it keeps quotas within their type.
const maxCPUs = 1 << 16
