package stamp

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dougong.dev/dougong/internal/transport"
)

func TestComesOver(t *testing.T) {
	var l List
	l.Add("kernel")
	l.Add("modules")
	if l[0].Microseconds <= 0 || l[1].Microseconds < l[0].Microseconds {
		t.Errorf("times %v", l)
	}
	name, value, _ := strings.Cut(l.Environ(), "=")
	t.Setenv(name, value)
	if diff := cmp.Diff(l, Inherited()); diff != "" {
		t.Error(diff)
	}
	if left, ok := os.LookupEnv(name); ok {
		t.Errorf("%s is still in the environment: %q", name, left)
	}
}

func TestStrangeEnvironment(t *testing.T) {
	for value, want := range map[string]List{
		"":                               nil,
		",,":                             nil,
		"kernel":                         nil,
		":5":                             nil,
		"kernel:x,init:7":                {{Step: "init", Microseconds: 7}},
		strings.Repeat("a:1,", 1000):     make16(),
		"kernel:99999999999999999999,b:": nil,
	} {
		t.Setenv(variable, value)
		if diff := cmp.Diff(want, Inherited()); diff != "" {
			t.Errorf("%.40q: %s", value, diff)
		}
	}
}

func make16() List {
	var l List
	for range maxSteps {
		l = append(l, transport.Timing{Step: "a", Microseconds: 1})
	}
	return l
}
