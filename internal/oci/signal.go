package oci

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// signalNames are the signals of Linux by number, without SIG. They are
// written out because x/sys has them per architecture of the host only.
var signalNames = []string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1",
	11: "SEGV", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP", 20: "TSTP",
	21: "TTIN", 22: "TTOU", 23: "URG", 24: "XCPU", 25: "XFSZ", 26: "VTALRM", 27: "PROF", 28: "WINCH", 29: "IO", 30: "PWR", 31: "SYS",
}

var signalAliases = map[string]syscall.Signal{"IOT": 6, "CLD": 17, "POLL": 29, "RTMIN": sigRTMin, "RTMAX": sigRTMax}

// The real-time signals as libc numbers them, two being its own.
const (
	sigRTMin syscall.Signal = 34
	sigRTMax syscall.Signal = 64
)

// ParseSignal reads TERM, SIGTERM, sigterm, 15, RTMIN+3 or RTMAX-1.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > int(sigRTMax) {
			return 0, invalid("signal number %d is not between 1 and %d", n, sigRTMax)
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if i := slices.Index(signalNames, name); i > 0 {
		return syscall.Signal(i), nil
	}
	if sig, ok := signalAliases[name]; ok {
		return sig, nil
	}
	if sig, ok := realTime(name); ok {
		return sig, nil
	}
	return 0, invalid("unknown signal %q%s", s, hint("SIG", nearest(name, signalNames[1:])))
}

func realTime(name string) (syscall.Signal, bool) {
	for prefix, base := range map[string]int{"RTMIN+": int(sigRTMin), "RTMAX-": int(sigRTMax)} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(rest, 10, 5)
		if err != nil || n > uint64(sigRTMax-sigRTMin) {
			return 0, false
		}
		if base == int(sigRTMax) {
			return syscall.Signal(base - int(n)), true
		}
		return syscall.Signal(base + int(n)), true
	}
	return 0, false
}

// SignalName is the full name of a signal, "SIGTERM" or "SIGRTMIN+3".
func SignalName(sig syscall.Signal) string {
	switch {
	case sig > 0 && int(sig) < len(signalNames):
		return "SIG" + signalNames[sig]
	case sig == sigRTMin:
		return "SIGRTMIN"
	case sig > sigRTMin && sig <= sigRTMax:
		return fmt.Sprintf("SIGRTMIN+%d", sig-sigRTMin)
	}
	return strconv.Itoa(int(sig))
}
