package vm

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// phase is one line of --timing=json.
type phase struct {
	Name       string
	Begin, End time.Time
	Depth      int
}

// phases runs a container and returns the phases of its start.
func (in *installation) phases(flags ...string) []phase {
	in.t.Helper()
	r := in.dougong(append(append([]string{"run", "--rm", "--timing=json"}, flags...), busybox(), "echo", "well")...)
	if r.code != 0 || r.stdout != "well\n" {
		in.t.Fatal(r)
	}
	var all []phase
	if err := json.Unmarshal([]byte(r.stderr), &all); err != nil {
		in.t.Fatalf("%v\n%s", err, r)
	}
	return all
}

// TestTiming wants the phases of every kind of start, in order and in time.
func TestTiming(t *testing.T) {
	in := install(t)
	in.must("template", "create")
	share := in.mkdir("share")
	for _, tt := range []struct {
		flags []string
		want  string
	}{
		{nil, "image process container template thaw outfit agent configure rootfs create start"},
		{[]string{"--no-template"}, "image process container spawn boot guest:_kernel guest:_agent configure rootfs create start"},
		{[]string{"-v", share + ":/share"}, "image process container share template thaw outfit agent devices configure rootfs create start"},
	} {
		begin := time.Now()
		all := in.phases(tt.flags...)
		end := time.Now()
		// The guest's first byte may come before the answer to the start.
		found := map[string]phase{}
		var order []string
		for _, p := range all {
			p.Name = strings.ReplaceAll(p.Name, " ", "_")
			found[p.Name] = p
			order = append(order, p.Name)
			if p.End.Before(p.Begin) || p.Begin.Before(begin) || p.End.After(end) {
				t.Errorf("%q: %s was from %v to %v, and the command from %v to %v", tt.flags, p.Name, p.Begin, p.End, begin, end)
			}
		}
		if list := " " + strings.Join(order, " ") + " "; !inOrder(list, strings.Fields(tt.want)) {
			t.Errorf("%q: phases%s, want %s in that order", tt.flags, list, tt.want)
		}
		for _, name := range []string{"first_byte", "command", "end"} {
			if _, ok := found[name]; !ok {
				t.Errorf("%q: there is no phase %q in %q", tt.flags, name, order)
			}
		}
		// What the guest says of its boot must fit what the host saw of it.
		if boot, ok := found["boot"]; ok && (found["guest:_kernel"].Begin.Before(found["spawn"].Begin) || found["guest:_kernel"].End.After(boot.End)) {
			t.Errorf("the guest's kernel ran from %v to %v, and its boot was over at %v", found["guest:_kernel"].Begin, found["guest:_kernel"].End, boot.End)
		}
	}
}

func inOrder(list string, names []string) bool {
	for _, name := range names {
		_, rest, ok := strings.Cut(list, " "+name+" ")
		if !ok {
			return false
		}
		list = " " + rest
	}
	return true
}

// TestTimingText is the same for people, and in the log.
func TestTimingText(t *testing.T) {
	in := install(t)
	r := in.dougong("run", "--timing", "--name", "box", busybox(), "echo", "well")
	if r.code != 0 || r.stdout != "well\n" || !strings.Contains(r.stderr, "clone start, ") || !strings.Contains(r.stderr, "first byte") || !strings.Contains(r.stderr, "█") {
		t.Error(r)
	}
	defer in.must("rm", "box")
	if !in.logSays(`msg="container started"`) || !in.logSays("phase.thaw=") {
		t.Error("the log has no trace of the start")
	}
	in.dougong("run", "--rm", "--timing=soon", busybox(), "true").wantError(t, 125, "--timing=soon", "json")
}
