package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dougong": main})
}

// configuration keeps a script away from the host's own containers and images.
// The sandbox process is one that fails: scripts start no machine.
const configuration = `[storage]
root = %q
[runtime]
state = %q
shim = "/bin/false"
[vm]
accelerator = "tcg"
`

// TestScripts runs the command line as a user would, as far as no machine is
// needed.
func TestScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("dougong must be run as root")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			file := filepath.Join(env.WorkDir, "config.toml")
			env.Setenv("CONFIG", file)
			text := fmt.Sprintf(configuration, filepath.Join(env.WorkDir, "storage"), filepath.Join(env.WorkDir, "state"))
			return os.WriteFile(file, []byte(text), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
	})
}

// exits runs "exits CODE ARG…": dougong with the script's configuration.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: exits CODE ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("dougong", append([]string{"--config", ts.Getenv("CONFIG")}, args[1:]...)...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
