package bench

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestIperfRate(t *testing.T) {
	for said, want := range map[string]float64{
		`{"start":{}, "end":{"sum_sent":{"bits_per_second":9e9},"sum_received":{"bits_per_second":8e8}}}`: 100,

		`{"start":{}, "end":{}, "error":"the server is busy"}`: 0,
		`{"end":{"sum_received":{"bits_per_second":0}}}`:       0,
		`iperf3: parameter error`:                              0,
	} {
		got, err := iperfRate([]byte(said))
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%s: %v, %v, want %v", said, got, err, want)
		}
	}
}

func TestPingTrips(t *testing.T) {
	const said = `PING 10.9.1.2 (10.9.1.2) 56(84) bytes of data.
64 bytes from 10.9.1.2: icmp_seq=1 ttl=64 time=0.483 ms
64 bytes from 10.9.1.2: icmp_seq=2 ttl=64 time=23 ms
no answer yet for icmp_seq=3

--- 10.9.1.2 ping statistics ---
3 packets transmitted, 2 received, 33% packet loss, time 1197ms
rtt min/avg/max/mdev = 0.483/2.867/23.510/4.552 ms
`
	if got := pingTrips(said); !slices.Equal(got, []float64{0.483, 23}) {
		t.Errorf("%v", got)
	}
}

// TestNetworkPlan: what is promised is relative to a row of the same plan.
func TestNetworkPlan(t *testing.T) {
	var names []string
	for _, r := range networkPlan() {
		names = append(names, r.Name)
		if r.Bound != nil && (!slices.Contains(names, r.Bound.Of) || r.RatioTo != r.Bound.Of) {
			t.Errorf("%s is compared to %q and promised against %q", r.Name, r.RatioTo, r.Bound.Of)
		}
	}
}

// TestCopyProgram makes a root file system in which the program runs.
func TestCopyProgram(t *testing.T) {
	rootfs := filepath.Join(t.TempDir(), "rootfs")
	if err := copyProgram(t.Context(), "/bin/ls", rootfs); err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(rootfs, "lib*", "*"))
	if info, serr := os.Stat(filepath.Join(rootfs, "bin/ls")); serr != nil || info.Mode().Perm() != 0o755 || err != nil || len(entries) == 0 {
		t.Errorf("%v, libraries %v, %v", serr, entries, err)
	}
	if err := copyProgram(t.Context(), "/no/such", rootfs); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("a program that is not there gives %v", err)
	}
}
