package bench

import (
	"os/exec"
	"strings"
	"testing"
)

// fakeCommand is a lab whose dougong is a script.
func fakeCommand(t *testing.T, script string) *lab {
	t.Helper()
	return &lab{command: strings.TrimSpace(writeScript(t, script)), configPath: "/config"}
}

func writeScript(t *testing.T, script string) string {
	t.Helper()
	path := writeFile(t, "dougong", "#!/bin/sh\n"+script)
	if err := exec.Command("chmod", "+x", path).Run(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestResident(t *testing.T) {
	l := fakeCommand(t, "echo up; cat")
	c, err := l.start(t.Context(), "name", "image", "--memory", "1g")
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Join(c.cmd.Args[1:], " ")
	if args != "--config /config run --rm -i --name name --memory 1g image sh -c "+residentScript {
		t.Errorf("arguments: %s", args)
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
}

func TestResidentThatFails(t *testing.T) {
	for script, says := range map[string]string{
		"echo first >&2; echo no such image >&2; exit 125": "exit status 125",
		"exec true":           "EOF",
		"echo something else": "start container",
	} {
		_, err := fakeCommand(t, script).start(t.Context(), "name", "image")
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q", script, err, says)
		}
	}
	_, err := fakeCommand(t, "echo no such image >&2; exit 125").start(t.Context(), "name", "image")
	if err == nil || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("error %v does not say why", err)
	}
	c, err := fakeCommand(t, "echo up; cat; exit 4").start(t.Context(), "name", "image")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.stop(); err == nil {
		t.Error("the end with a status is no error")
	}
}

func TestTimed(t *testing.T) {
	took, err := timed(exec.Command("true"))
	if err != nil || took <= 0 || took > 60 {
		t.Errorf("took %v, %v", took, err)
	}
	if _, err := timed(exec.Command("sh", "-c", "echo why >&2; exit 1")); err == nil || !strings.Contains(err.Error(), "sh: exit status 1: why") {
		t.Errorf("error %v", err)
	}
}
