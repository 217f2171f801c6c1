package oci

import (
	"syscall"
	"testing"
)

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]string{
		"TERM": "SIGTERM", "SIGTERM": "SIGTERM", "sigterm": "SIGTERM", "15": "SIGTERM", "KILL": "SIGKILL", "1": "SIGHUP", "SIGSYS": "SIGSYS",
		"IOT": "SIGABRT", "POLL": "SIGIO", "RTMIN": "SIGRTMIN", "SIGRTMIN+3": "SIGRTMIN+3", "37": "SIGRTMIN+3", "RTMAX": "SIGRTMIN+30",
		"RTMAX-1": "SIGRTMIN+29", "RTMIN+30": "SIGRTMIN+30", "33": "33",
		"TREM": `error: unknown signal "TREM"`, "SIGUSR": "error: did you mean SIGUSR1", "": "error: unknown signal", "SIG": "error: unknown signal",
		"0": "error: signal number 0", "65": "error: signal number 65", "-1": "error: signal number -1", "RTMIN+31": "error: unknown", "RTMAX--1": "error: unknown",
	} {
		sig, err := ParseSignal(in)
		checkResult(t, in, SignalName(sig), err, want)
	}
	if sig, _ := ParseSignal("USR2"); sig != syscall.SIGUSR2 {
		t.Errorf("got %d", sig)
	}
}

func FuzzParseSignal(f *testing.F) {
	for _, s := range []string{"TERM", "9", "RTMIN+3", "RTMAX-64", "SIGSIG"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sig, err := ParseSignal(s)
		if err != nil {
			return
		}
		if again, err := ParseSignal(SignalName(sig)); err != nil || again != sig {
			t.Errorf("%q is %d, whose name %q is %d, %v", s, sig, SignalName(sig), again, err)
		}
	})
}

func TestNearest(t *testing.T) {
	for in, want := range map[string]string{"memory": "memory", "memroy": "memory", "cpu": "cpus", "x": "", "": ""} {
		if got := nearest(in, []string{"cpus", "memory"}); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
