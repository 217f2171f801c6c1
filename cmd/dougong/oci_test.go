package main

import "testing"

func TestListenFDs(t *testing.T) {
	for _, tt := range []struct{ fds, pid, want string }{
		{"2", "7", "2"}, {"2", "8", ""}, {"0", "7", ""}, {"", "7", ""}, {"2", "", ""},
	} {
		env := map[string]string{"LISTEN_FDS": tt.fds, "LISTEN_PID": tt.pid}
		if got := listenFDs(func(name string) string { return env[name] }, 7); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
