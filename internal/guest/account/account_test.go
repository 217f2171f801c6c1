package account

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const (
	passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n"
	group  = "root:x:0:\nweb:x:33:\nlog:x:4:web\nssl:x:105:web\n"
)

func rootfs(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestApply(t *testing.T) {
	root := rootfs(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	for name, c := range map[string]struct {
		in   specs.User
		env  []string
		want specs.Process
	}{
		"name": {
			in:   specs.User{Username: "web"},
			want: specs.Process{User: specs.User{UID: 33, GID: 33, AdditionalGids: []uint32{33, 4, 105}}, Env: []string{"HOME=/var/www"}},
		},
		"name and group": {
			in:   specs.User{Username: "web:log"},
			want: specs.Process{User: specs.User{UID: 33, GID: 4, AdditionalGids: []uint32{4}}, Env: []string{"HOME=/var/www"}},
		},
		"unknown number": {
			in:   specs.User{Username: "1234:99"},
			want: specs.Process{User: specs.User{UID: 1234, GID: 99, AdditionalGids: []uint32{99}}, Env: []string{"HOME=/"}},
		},
		"resolved before": {
			in:   specs.User{UID: 33, GID: 7, AdditionalGids: []uint32{8}},
			want: specs.Process{User: specs.User{UID: 33, GID: 7, AdditionalGids: []uint32{8}}, Env: []string{"HOME=/var/www"}},
		},
		"home given": {
			in: specs.User{Username: "root"}, env: []string{"HOME=/x"},
			want: specs.Process{User: specs.User{AdditionalGids: []uint32{0}}, Env: []string{"HOME=/x"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := specs.Process{User: c.in, Env: c.env}
			if err := Apply(root, &p); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, p); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestApplyUnknown(t *testing.T) {
	root := rootfs(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	for _, name := range []string{"nobody", "web:nobody", "-1", "99999999999"} {
		p := specs.Process{User: specs.User{Username: name}}
		if err := Apply(root, &p); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: got %v, want an invalid argument", name, err)
		}
	}
}

// An image without the files knows numbers only.
func TestApplyEmptyImage(t *testing.T) {
	p := specs.Process{User: specs.User{Username: "5:6"}}
	if err := Apply(t.TempDir(), &p); err != nil || p.User.UID != 5 || p.User.GID != 6 {
		t.Fatalf("%+v, %v", p.User, err)
	}
	if err := Apply(t.TempDir(), &specs.Process{User: specs.User{Username: "web"}}); !errdefs.IsInvalidArgument(err) {
		t.Fatalf("got %v", err)
	}
}

// Links are the image's: they lead to its files and never to the guest's.
func TestApplyLinks(t *testing.T) {
	root := rootfs(t, map[string]string{"mine": "trap:x:7:7::/home/trap:/bin/sh\n", "etc/group": ""})
	link := filepath.Join(root, "etc/passwd")
	for target, want := range map[string]bool{"/mine": true, "../../../../mine": true, "/etc/nothing": false} {
		_ = os.Remove(link)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		err := Apply(root, &specs.Process{User: specs.User{Username: "trap"}})
		if (err == nil) != want {
			t.Errorf("link to %s: %v", target, err)
		}
	}
	_ = os.Remove(link)
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	if err := Apply(root, &specs.Process{User: specs.User{Username: "root"}}); err == nil {
		t.Error("a link to itself, or the machine's own file, was read")
	}
}

func TestApplyOddFiles(t *testing.T) {
	root := rootfs(t, nil)
	if err := unix.Mkfifo(filepath.Join(root, "etc/passwd"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Apply(root, &specs.Process{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("fifo: got %v", err)
	}
	root = rootfs(t, map[string]string{"etc/passwd": ""})
	if err := os.Truncate(filepath.Join(root, "etc/passwd"), maxFile+1); err != nil {
		t.Fatal(err)
	}
	if err := Apply(root, &specs.Process{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("large file: got %v", err)
	}
}
