package oci

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFiles(t *testing.T) {
	files, err := Files(RunOptions{Hostname: "web.example.org", DNS: []string{"9.9.9.9", "2620:fe::fe"}}, []string{"10.0.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range files {
		got[f.Name] = string(f.Content)
	}
	for target, source := range fileTargets {
		if _, ok := got[strings.TrimPrefix(source, FilesPrefix)]; !ok {
			t.Errorf("%s has no file %s", target, source)
		}
	}
	if diff := cmp.Diff("nameserver 9.9.9.9\nnameserver 2620:fe::fe\n", got["resolv.conf"]); diff != "" {
		t.Error(diff)
	}
	if got["hostname"] != "web.example.org\n" {
		t.Errorf("hostname: %q", got["hostname"])
	}
	for _, line := range []string{"127.0.0.1\tlocalhost\n", "::1\tlocalhost ", "127.0.1.1\tweb.example.org web\n"} {
		if !strings.Contains(got["hosts"], line) {
			t.Errorf("hosts has no %q:\n%s", line, got["hosts"])
		}
	}
}

func TestFilesFallBack(t *testing.T) {
	files, err := Files(RunOptions{ID: "abc"}, []string{"10.0.2.3"})
	if err != nil || string(files[0].Content) != "nameserver 10.0.2.3\n" || string(files[2].Content) != "abc\n" {
		t.Errorf("got %+v, %v", files, err)
	}
}

func TestFilesRefuse(t *testing.T) {
	_, err := Files(RunOptions{DNS: []string{"dns.example.org"}}, nil)
	checkResult(t, "dns", "", err, `error: DNS server "dns.example.org"`)
	for _, name := range []string{"a b", "a\nb", "-a", "a-", "a..b", ".a", "ä", "a\u212ab", strings.Repeat("a", 65)} {
		_, err := Files(RunOptions{Hostname: name}, nil)
		checkResult(t, name, "", err, "error: host name")
	}
}
