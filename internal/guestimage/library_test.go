package guestimage

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLibrariesAreThoseOfTheDynamicLinker(t *testing.T) {
	libs, err := libraries(distributionCrun)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ldd", distributionCrun).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, host := range libs {
		got = append(got, filepath.Base(host))
	}
	for line := range strings.Lines(string(out)) {
		if name := strings.Fields(line)[0]; !strings.HasPrefix(name, "linux-vdso") {
			want = append(want, filepath.Base(name))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	// The interpreter is also a library, by another path.
	if got = slices.Compact(got); !slices.Equal(got, slices.Compact(want)) {
		t.Errorf("got %v, want %v", got, want)
	}
	for guest := range libs {
		if !slices.Contains(libraryDirs, filepath.Dir(guest)) {
			t.Errorf("%s is where the guest's dynamic linker does not look", guest)
		}
	}
}

func TestLibrariesOfStaticProgram(t *testing.T) {
	if libs, err := libraries("/bin/busybox"); err != nil || len(libs) != 0 {
		t.Errorf("got %v, %v (package busybox-static)", libs, err)
	}
}

func TestFindPassesOverOtherMachines(t *testing.T) {
	dir := t.TempDir()
	arm := tinyELF(nil)
	arm[18] = 183
	write(t, filepath.Join(dir, "arm", "lib.so"), string(arm))
	write(t, filepath.Join(dir, "text", "lib.so"), "GROUP ( lib.so.1 )")
	write(t, filepath.Join(dir, "good", "lib.so"), string(tinyELF(nil)))
	r := &resolver{dirs: []string{filepath.Join(dir, "none"), filepath.Join(dir, "arm"), filepath.Join(dir, "text"), filepath.Join(dir, "good")}}
	if got, err := r.find("lib.so"); err != nil || got != filepath.Join(dir, "good", "lib.so") {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := r.find("other.so"); err == nil || !strings.Contains(err.Error(), "other.so") {
		t.Errorf("a missing library: %v", err)
	}
}

func TestGuestLibraryIsWhereTheLinkerLooks(t *testing.T) {
	for host, want := range map[string]string{
		"/usr/lib/x86_64-linux-gnu/libc.so.6": "/usr/lib/x86_64-linux-gnu/libc.so.6",
		"/opt/yajl/libyajl.so.2":              libraryDirs[0] + "/libyajl.so.2",
	} {
		if got := guestLibrary(host); got != want {
			t.Errorf("%s: got %s, want %s", host, got, want)
		}
	}
}

func TestConfiguredDirs(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ld.so.conf"), "include conf.d/*.conf  # more\n\n/opt/lib\nhwcap 1 nosegneg\n")
	write(t, filepath.Join(dir, "conf.d", "b.conf"), "/b\n")
	write(t, filepath.Join(dir, "conf.d", "a.conf"), "# a comment\n/a1\n  /a2\n")
	got, err := configuredDirs(filepath.Join(dir, "ld.so.conf"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/a1", "/a2", "/b", "/opt/lib"}, got); diff != "" {
		t.Error(diff)
	}
	write(t, filepath.Join(dir, "loop.conf"), "include loop.conf\n")
	if _, err := configuredDirs(filepath.Join(dir, "loop.conf"), 0); err == nil {
		t.Error("a loop of includes was followed for ever, or taken for an end")
	}
	if got, err := configuredDirs(filepath.Join(dir, "none"), 0); err != nil || got != nil {
		t.Errorf("no configuration: %v, %v", got, err)
	}
}

func FuzzConfiguredDirs(f *testing.F) {
	f.Add("include *.conf\n/lib\n")
	f.Fuzz(func(t *testing.T, content string) {
		// An include may name any file there is: none but its own here.
		if strings.Contains(content, "/") {
			return
		}
		path := filepath.Join(t.TempDir(), "ld.so.conf")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = configuredDirs(path, 0)
	})
}
