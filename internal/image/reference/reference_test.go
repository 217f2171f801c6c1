package reference_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"dougong.dev/dougong/internal/image/reference"
)

const sum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	abs, _ := filepath.Abs("some/dir")
	type ref = reference.Reference
	tests := map[string]ref{
		"busybox":                           {Transport: reference.Registry, Name: "docker.io/library/busybox:latest"},
		"busybox:1.36":                      {Transport: reference.Registry, Name: "docker.io/library/busybox:1.36"},
		"docker://busybox":                  {Transport: reference.Registry, Name: "docker.io/library/busybox:latest"},
		"docker.io/a/b:c":                   {Transport: reference.Registry, Name: "docker.io/a/b:c"},
		"index.docker.io/library/x":         {Transport: reference.Registry, Name: "docker.io/library/x:latest"},
		"docker.io/x":                       {Transport: reference.Registry, Name: "docker.io/library/x:latest"},
		"localhost/x":                       {Transport: reference.Registry, Name: "localhost/x:latest"},
		"localhost:5000/x/y/z:t":            {Transport: reference.Registry, Name: "localhost:5000/x/y/z:t"},
		"127.0.0.1:5000/x":                  {Transport: reference.Registry, Name: "127.0.0.1:5000/x:latest"},
		"ghcr.io/o/x@" + sum:                {Transport: reference.Registry, Name: "ghcr.io/o/x@" + sum},
		"x:tag@" + sum:                      {Transport: reference.Registry, Name: "docker.io/library/x@" + sum},
		"oci:some/dir":                      {Transport: reference.OCI, Path: abs},
		"oci:some/dir/:v1":                  {Transport: reference.OCI, Path: abs, Name: "v1"},
		"oci:/d:docker.io/library/x:latest": {Transport: reference.OCI, Path: "/d", Name: "docker.io/library/x:latest"},
		"oci-archive:/a.tar:v1":             {Transport: reference.OCIArchive, Path: "/a.tar", Name: "v1"},
		"docker-archive:/a.tar":             {Transport: reference.DockerArchive, Path: "/a.tar"},
		"docker-archive:/a.tar:busybox:1":   {Transport: reference.DockerArchive, Path: "/a.tar", Name: "docker.io/library/busybox:1"},
		"dir:/":                             {Transport: reference.Dir, Path: "/"},
		"dir:some/../some/dir":              {Transport: reference.Dir, Path: abs},
		"dir:/with:colon":                   {Transport: reference.Dir, Path: "/with:colon"},
	}
	for in, want := range tests {
		t.Run(in, func(t *testing.T) {
			got, err := reference.Parse(in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			again, err := reference.Parse(got.String())
			if err != nil || again != got {
				t.Errorf("%q parses as %+v, error %v: want %+v", got.String(), again, err, got)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := map[string]string{
		"":                       "is empty",
		"docker://":              "is empty",
		"dir:":                   "no path after",
		"oci:":                   "no path after",
		"oci::tag":               "no path after",
		"Busybox":                "lower case",
		"a b":                    "not of the form",
		"../x":                   "no name of a registry",
		"a//b":                   "no name of a repository",
		"busybox:":               "not of the form",
		"x@sha256:12":            "not of the form",
		"https://example.org/x":  "not supported",
		"docker-daemon:x:latest": "not supported",
		"oci:/x:a b":             "space",
		"dir:a\x00b":             "NUL",
		"docker-archive:/x:A B":  "not of the form",
	}
	for in, want := range tests {
		t.Run(in, func(t *testing.T) {
			got, err := reference.Parse(in)
			if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("%+v, error %v: want an invalid argument with %q", got, err, want)
			}
		})
	}
}

func TestFamiliar(t *testing.T) {
	for in, want := range map[string]string{
		"docker.io/library/busybox:latest": "busybox",
		"docker.io/a/b:1":                  "a/b:1",
		"quay.io/x:latest":                 "quay.io/x:latest",
		"oci:/x":                           "oci:/x",
	} {
		if got := reference.Familiar(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"busybox", "oci:a:b", "dir:x", "docker-archive:a:b:c", "x@" + sum, "docker://[::1]:5/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := reference.Parse(s)
		if err != nil {
			return
		}
		if r.Transport != reference.Registry && !filepath.IsAbs(r.Path) {
			t.Errorf("%q: path %q is not absolute", s, r.Path)
		}
		if strings.ContainsRune(r.Path, ':') && r.Transport != reference.Dir {
			return // the working directory itself may have a colon
		}
		again, err := reference.Parse(r.String())
		if err != nil || again != r {
			t.Errorf("%q: %q parses as %+v, error %v", s, r.String(), again, err)
		}
	})
}
