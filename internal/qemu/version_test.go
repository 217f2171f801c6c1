package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseVersion(t *testing.T) {
	const debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright"
	for in, want := range map[string]Version{
		debian:                         {7, 2, 22},
		"QEMU emulator version 10.0.2": {10, 0, 2},
		"QEMU emulator version 8.0":    {8, 0, 0},
		"QEMU emulator version 9.1.50 (v9.1.0-1-gabcdef)\n": {9, 1, 50},
	} {
		if got, err := ParseVersion([]byte(in)); err != nil || got != want {
			t.Errorf("ParseVersion(%q) = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "qemu", "QEMU emulator version x", "QEMU emulator version 7", strings.Repeat("z", 1000)} {
		if got, err := ParseVersion([]byte(in)); err == nil {
			t.Errorf("ParseVersion(%q) = %v, want an error", in, got)
		} else if len(err.Error()) > 200 {
			t.Errorf("%d bytes of error", len(err.Error()))
		}
	}
}

func TestVersionLess(t *testing.T) {
	ordered := []Version{{6, 9, 9}, {7, 1, 50}, {7, 2, 0}, {7, 2, 1}, {10, 0, 0}}
	for i, a := range ordered {
		for j, b := range ordered {
			if a.Less(b) != (i < j) {
				t.Errorf("%v.Less(%v) = %v", a, b, a.Less(b))
			}
		}
	}
}

func TestFindBinary(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	_, err := FindBinary("")
	if !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "qemu-system-x86") {
		t.Errorf("err = %v", err)
	}
	path := script(t, dir, binaryName, "exit 0")
	if got, err := FindBinary(""); err != nil || got != path {
		t.Errorf("= %q, %v", got, err)
	}
	if got, err := FindBinary(path); err != nil || got != path {
		t.Errorf("= %q, %v", got, err)
	}
	if _, err := FindBinary(filepath.Join(dir, "none")); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("err = %v", err)
	}
}

func TestQueryVersion(t *testing.T) {
	dir := t.TempDir()
	good := script(t, dir, "good", "echo QEMU emulator version 8.2.1")
	old := script(t, dir, "old", "echo QEMU emulator version 5.2.0")
	odd := script(t, dir, "odd", "echo hello")
	bad := script(t, dir, "bad", "exit 3")
	ctx := context.Background()
	if v, err := QueryVersion(ctx, good); err != nil || v != (Version{8, 2, 1}) {
		t.Errorf("= %v, %v", v, err)
	}
	if v, err := QueryVersion(ctx, old); !errors.Is(err, errdefs.ErrFailedPrecondition) || v.Major != 5 || !strings.Contains(err.Error(), "7.2 or newer") {
		t.Errorf("= %v, %v", v, err)
	}
	for _, path := range []string{odd, bad} {
		if _, err := QueryVersion(ctx, path); err == nil {
			t.Errorf("no error from %s", path)
		}
	}
}

func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func FuzzParseVersion(f *testing.F) {
	f.Add([]byte("QEMU emulator version 7.2.22 (Debian)"))
	f.Add([]byte("QEMU emulator version 99999999999.1"))
	f.Fuzz(func(t *testing.T, out []byte) {
		v, err := ParseVersion(out)
		if err != nil {
			return
		}
		if again, err := ParseVersion([]byte("QEMU emulator version " + v.String())); err != nil || again != v {
			t.Errorf("%v became %v, %v", v, again, err)
		}
	})
}
