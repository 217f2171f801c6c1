package container

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestRuntimeErrors has what crun 1.8.1 and runc 1.1.5 say.
func TestRuntimeErrors(t *testing.T) {
	for message, c := range map[string]struct {
		text  string
		class func(error) bool
	}{
		"executable file `foo` not found in $PATH: No such file or directory": {
			`exec "foo": executable file not found in $PATH`, errdefs.IsNotFound,
		},
		`exec: "foo": executable file not found in $PATH`: {
			`exec "foo": executable file not found in $PATH`, errdefs.IsNotFound,
		},
		"open executable: Permission denied":                   {`exec "foo": permission denied`, errdefs.IsPermissionDenied},
		"open executable: Operation not permitted":             {`exec "foo": is a directory`, errdefs.IsPermissionDenied},
		"exec container process `/bin/foo`: Exec format error": {`exec "foo": exec format error`, errdefs.IsPermissionDenied},
		"chdir `/x`: Not a directory":                          {`working directory "/x": not a directory: invalid argument`, errdefs.IsInvalidArgument},
		"unknown version specified":                            {"unknown version specified: invalid argument", errdefs.IsInvalidArgument},
		"exec container process (missing dynamic library?) `foo`: No such file or directory": {
			`exec "foo": executable file not found in $PATH`, errdefs.IsNotFound,
		},
		"mount `x` to `y`: No such device": {"mount `x` to `y`: No such device", errdefs.IsUnknown},
	} {
		err := runtimeError(message, "foo", "/x")
		if err.Error() != c.text {
			t.Errorf("%s\n got %q\nwant %q", message, err, c.text)
		}
		if !c.class(err) && !strings.HasPrefix(message, "mount") {
			t.Errorf("%s: class of %v", message, err)
		}
	}
}

// What cannot run says so on creation, on start, and in its exit status.
func TestBadCommands(t *testing.T) {
	g := newGuest(t)
	c := g.run("good", false, "sleep", "100")
	for i, bad := range []struct {
		args0, text string
		class       func(error) bool
		status      uint32
	}{
		{"missing", `exec "missing": executable file not found in $PATH`, errdefs.IsNotFound, 127},
		{"/missing", `exec "/missing": no such file or directory`, errdefs.IsNotFound, 127},
		{"plain", `exec "plain": permission denied`, errdefs.IsPermissionDenied, 126},
		{"/bin", `exec "/bin": is a directory`, errdefs.IsPermissionDenied, 126},
	} {
		init := g.newTask(fmt.Sprint("bad", i), "", false, false)
		err := init.create(g.bundle(init.id, nil, bad.args0))
		if err == nil || !strings.Contains(err.Error(), bad.text) || !bad.class(err) {
			t.Errorf("create %s: %v", bad.args0, err)
		}
		e := g.newTask("good", fmt.Sprint("e", i), false, false)
		g.check(e.exec(specs.Process{Args: []string{bad.args0}, Cwd: "/", Env: []string{"PATH=/bin"}}))
		err = e.start()
		if err == nil || !strings.Contains(err.Error(), bad.text) || !bad.class(err) {
			t.Errorf("exec %s: %v", bad.args0, err)
		}
		if r := e.waitStatus(); r != bad.status {
			t.Errorf("exec %s: status %d, want %d", bad.args0, r, bad.status)
		}
		g.check(e.delete())
	}
	c.kill(9, false)
}

// A script whose interpreter is missing is found out only when it runs: the
// runtime says so on standard error.
func TestLostInterpreter(t *testing.T) {
	g := newGuest(t)
	c := g.run("script", false, "lost")
	if got := c.wait(); got == 0 || !strings.Contains(c.err.String(), "No such file or directory") {
		t.Errorf("status %d, standard error %q", got, c.err.String())
	}
	c = g.run("host", false, "sleep", "100")
	e := c.startExec("e", false, false, "lost")
	if got := e.wait(); got == 0 || !strings.Contains(e.err.String(), "No such file or directory") {
		t.Errorf("exec: status %d, standard error %q", got, e.err.String())
	}
}

func TestExecUser(t *testing.T) {
	g := newGuest(t)
	c := g.run("users", false, "sleep", "100")
	e := g.newTask("users", "web", false, false)
	p := specs.Process{
		Args: []string{"sh", "-c", "id -u; echo $HOME; echo through >/dev/stderr"},
		Cwd:  "/", Env: []string{"PATH=/bin"}, User: specs.User{Username: "web"},
	}
	g.check(e.exec(p))
	g.check(e.start())
	if got := e.wait(); got != 0 || e.out.String() != "33\n/var/www\n" {
		t.Errorf("status %d, output %q, %q", got, e.out.String(), e.err.String())
	}
	bad := g.newTask("users", "bad", false, false)
	p.User.Username = "nobody"
	g.check(bad.exec(p))
	if err := bad.start(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("unknown user: %v", err)
	}
	c.kill(9, false)
}

func TestBadRequests(t *testing.T) {
	g := newGuest(t)
	for _, id := range []string{"", "../x", "a/b", strings.Repeat("x", 200)} {
		c := &proc{guest: g, id: id}
		if err := c.create(g.dir); !errdefs.IsInvalidArgument(err) {
			t.Errorf("id %q: %v", id, err)
		}
	}
	c := &proc{guest: g, id: "x"}
	if err := c.create(g.dir); !errdefs.IsNotFound(err) {
		t.Errorf("no bundle: %v", err)
	}
}
