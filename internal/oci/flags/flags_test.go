package flags

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dougong.dev/dougong/internal/oci"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// check holds a result against want, which is "error: PART" for an invalid argument.
func check(t *testing.T, in string, got any, err error, want any) {
	t.Helper()
	text, _ := want.(string)
	if part, fails := strings.CutPrefix(text, "error: "); fails {
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: want an invalid argument saying %q, got %+v, %v", in, part, got, err)
		}
		return
	}
	if err != nil {
		t.Errorf("%q: %v", in, err)
	} else if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("%q (-want +got):\n%s", in, diff)
	}
}

var volumeCases = map[string]any{
	"/data":                 Volume{Target: "/data"},
	"/a:/b":                 Volume{Source: "/a", Target: "/b"},
	"/a:/b:ro":              Volume{Source: "/a", Target: "/b", ReadOnly: true},
	"./a:/b:rw,z":           Volume{Source: "./a", Target: "/b"},
	"a/b:/c:Z,rslave":       Volume{Source: "a/b", Target: "/c", Options: []string{"rslave"}},
	"..:/c":                 Volume{Source: "..", Target: "/c"},
	"db-1:/var/lib/db":      Volume{Source: "db-1", Named: true, Target: "/var/lib/db"},
	"":                      "error: must start with /",
	"data":                  "error: must start with /",
	"/a:b":                  `error: the path in the container, "b", must start with /`,
	"/a:b:ro":               `error: "b", must start with /`,
	"/a:/":                  "error: must not be /",
	"/a:/b/..":              "error: must not be /",
	"/a:/b:ro,rw":           "error: both ro and rw",
	"/a:/b:shared":          "error: do not propagate",
	"/a:/b:rx":              `error: unknown option "rx"`,
	"/a:/b:":                `error: unknown option ""`,
	"/a:/b:/c:ro":           "error: too many colons",
	":/b":                   "error: empty source",
	"a b:/c":                "error: neither a path nor a volume's name (write ./a b",
	"x:/c":                  "error: neither a path nor a volume's name",
	"/a:/b\x00":             "error: must start with /",
	"/a:/b:nocopy,rprivate": Volume{Source: "/a", Target: "/b", Options: []string{"rprivate"}},
}

func TestParseVolume(t *testing.T) {
	for in, want := range volumeCases {
		got, err := ParseVolume(in)
		check(t, in, got, err, want)
	}
}

func TestVolumeMount(t *testing.T) {
	v := Volume{Source: "a", Target: "/b", ReadOnly: true, Options: []string{"rslave"}}
	want := oci.Mount{Type: oci.MountBind, Source: "/abs/a", Target: "/b", ReadOnly: true, Options: []string{"rslave"}}
	check(t, "bind", v.Mount("/abs/a"), nil, want)
	check(t, "anonymous", Volume{Target: "/b"}.Mount(""), nil, oci.Mount{Type: oci.MountVolume, Target: "/b"})
}

var mountCases = map[string]any{
	"type=bind,src=/a,dst=/b":                          oci.Mount{Type: "bind", Source: "/a", Target: "/b"},
	"type=bind,source=a,target=/b,readonly":            oci.Mount{Type: "bind", Source: "a", Target: "/b", ReadOnly: true},
	"type=bind,src=/a,destination=/b,ro=false":         oci.Mount{Type: "bind", Source: "/a", Target: "/b"},
	"type=bind,src=/a,dst=/b,bind-propagation=slave":   oci.Mount{Type: "bind", Source: "/a", Target: "/b", Options: []string{"slave"}},
	"type=tmpfs,dst=/b,tmpfs-size=64m,tmpfs-mode=1770": oci.Mount{Type: "tmpfs", Target: "/b", Size: 64 << 20, Mode: 0o1770},
	"type=volume,src=db-1,dst=/b":                      oci.Mount{Type: "volume", Source: "db-1", Target: "/b"},
	"target=/b":                                        oci.Mount{Type: "volume", Target: "/b"},
	"":                                                 `error: "" is not KEY=VALUE`,
	"type=bind,dst=/b":                                 "error: a bind needs a source",
	"type=bind,src=/a":                                 "error: target is missing",
	"type=bind,src=/a,dst=b":                           "error: must start with /",
	"type=bind,src=/a,dst=/b,dst=/c":                   `error: "target" is given twice`,
	"type=bind,src=/a,dst=/b,ro=maybe":                 `error: readonly "maybe"`,
	"type=bind,src=/a,dst=/b,bind-propagation=shared":  `error: bind-propagation "shared"`,
	"type=bind,src=/a,dst=/b,tmpfs-size=1m":            "error: tmpfs-size is for type=tmpfs only",
	"type=tmpfs,src=/a,dst=/b":                         "error: a tmpfs has no source",
	"type=tmpfs,dst=/b,tmpfs-mode=999":                 `error: tmpfs-mode "999"`,
	"type=tmpfs,dst=/b,tmpfs-mode=17777":               `error: tmpfs-mode "17777"`,
	"type=nfs,dst=/b":                                  `error: type "nfs" is none of`,
	"type=volume,src=/a,dst=/b":                        "error: for a path say type=bind",
	"type=bind,src=/a,dst=/b,colour=red":               `error: unknown key "colour"`,
	"type,dst=/b":                                      `error: "type" is not KEY=VALUE`,
}

func TestParseMount(t *testing.T) {
	for in, want := range mountCases {
		got, err := ParseMount(in)
		check(t, in, got, err, want)
	}
}

var tmpfsCases = map[string]any{
	"/run":                    oci.Mount{Type: "tmpfs", Target: "/run"},
	"/run:":                   oci.Mount{Type: "tmpfs", Target: "/run"},
	"/run:size=64m,mode=1777": oci.Mount{Type: "tmpfs", Target: "/run", Size: 64 << 20, Mode: 0o1777},
	"/run:ro,exec,uid=5,nr_inodes=1k,size=50%": oci.Mount{
		Type: "tmpfs", Target: "/run", ReadOnly: true, Options: []string{"exec", "uid=5", "nr_inodes=1k", "size=50%"},
	},
	"run":             "error: must start with /",
	"/":               "error: must not be /",
	"/run:size=big":   `error: size "big"`,
	"/run:size=-5%":   `error: size "-5%"`,
	"/run:mode=rwx":   `error: mode "rwx"`,
	"/run:uid=root":   `error: uid "root"`,
	"/run:mpol=local": `error: unknown option "mpol=local"`,
	"/run:size":       `error: unknown option "size"`,
	"/run:shared":     `error: unknown option "shared"`,
}

func TestParseTmpfs(t *testing.T) {
	for in, want := range tmpfsCases {
		got, err := ParseTmpfs(in)
		check(t, in, got, err, want)
	}
}

var sizeCases = map[string]any{
	"0": int64(0), "1": int64(1), "1073741824": int64(1 << 30), "512m": int64(512 << 20), "1g": int64(1 << 30), "1G": int64(1 << 30),
	"1.5g": int64(3 << 29), "2KiB": int64(2048), "7b": int64(7), "1tb": int64(1 << 40), " 3k ": int64(3072), "9223372036854775807": int64(1<<63 - 1),
	"": "error: size", "m": "error: size", "-1": "error: size", "1x": "error: size", "1e9": "error: size", "1.2.3m": "error: size", "1 g": "error: size",
	"9223372036854775808": "error: too large", "99999999t": "error: too large", "NaN": "error: size", "Inf": "error: size", "0x10": "error: size", "1_0": "error: size",
}

func TestParseSize(t *testing.T) {
	for in, want := range sizeCases {
		got, err := ParseSize(in)
		check(t, in, got, err, want)
	}
}

func TestParseCPUs(t *testing.T) {
	for in, want := range map[string]any{
		"0": 0.0, "2": 2.0, "0.5": 0.5, ".5": 0.5, "1.25": 1.25,
		"": "error: not a number", "-1": "error: not a number", "NaN": "error: not a number", "1e3": "error: not a number", "1.2.3": "error: not a number",
		"0.001": "error: the least is 0.01", "70000": "error: the most is",
	} {
		got, err := ParseCPUs(in)
		check(t, in, got, err, want)
	}
}

var portCases = map[string]any{
	"80":                []Port{{GuestPort: 80, Proto: "tcp"}},
	"8080:80":           []Port{{HostPort: 8080, GuestPort: 80, Proto: "tcp"}},
	"53:5353/UDP":       []Port{{HostPort: 53, GuestPort: 5353, Proto: "udp"}},
	"127.0.0.1:8080:80": []Port{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, GuestPort: 80, Proto: "tcp"}},
	"127.0.0.1::80":     []Port{{HostIP: netip.MustParseAddr("127.0.0.1"), GuestPort: 80, Proto: "tcp"}},
	"[::1]:8080:80":     []Port{{HostIP: netip.MustParseAddr("::1"), HostPort: 8080, GuestPort: 80, Proto: "tcp"}},
	"[::]:80/tcp":       []Port{{HostIP: netip.MustParseAddr("::"), GuestPort: 80, Proto: "tcp"}},
	"8000-8001:80-81":   []Port{{HostPort: 8000, GuestPort: 80, Proto: "tcp"}, {HostPort: 8001, GuestPort: 81, Proto: "tcp"}},
	"65534-65535":       []Port{{GuestPort: 65534, Proto: "tcp"}, {GuestPort: 65535, Proto: "tcp"}},
	"":                  `error: "" is not a port`,
	"0":                 `error: "0" is not a port`,
	"65536":             "error: not a port",
	"0:80":              `error: "0" is not a port`,
	"81-80":             "error: nor a range",
	"8000-8002:80-81":   "error: 3 ports of the host cannot go to 2",
	"8000-8001:80":      "error: 2 ports of the host cannot go to 1",
	"80/sctp":           `error: protocol "sctp"`,
	"80/":               `error: protocol ""`,
	"localhost:80:80":   `error: "localhost" is not an IP address`,
	"::1:80:80":         "error: is not a port",
	":8080:80":          "error: address is empty",
	"[::1:80:80":        "error: not closed",
	"[x]:80:80":         `error: "x" is not an IP address`,
	"http":              "error: not a port",
	"80:":               "error: not a port",
	"+80":               "error: not a port",
	"1-2-3":             "error: not a port",
}

func TestParsePort(t *testing.T) {
	for in, want := range portCases {
		got, err := ParsePort(in)
		check(t, in, got, err, want)
	}
}

func hostEnv(key string) (string, bool) { return "host " + key, key == "HOME" }

func TestParseEnv(t *testing.T) {
	for in, want := range map[string]any{
		"A=b": "A=b", "A=": "A=", "A=b=c": "A=b=c", "HOME": "HOME=host HOME", "NONE": "NONE",
		"": "error: not KEY", "=x": "error: not KEY", "A=\x00": "error: not KEY",
	} {
		got, err := ParseEnv(in, hostEnv)
		check(t, in, got, err, want)
	}
}

var envFileCases = map[string]any{
	"A=1\n# comment\n\n  B=two words \r\nC=\"quoted\"\nHOME\nNONE\nD=a#b\nE=": []string{
		"A=1", "B=two words ", `C="quoted"`, "HOME=host HOME", "D=a#b", "E=",
	},
	"\ufeffA=1":  []string{"A=1"},
	"":           []string(nil),
	"A=1\nB C=2": "error: .env, line 2",
	"=1":         "error: line 1",
	"A=\xff":     "error: not UTF-8",
	"A=\x00":     "error: line 1",
}

func TestParseEnvFile(t *testing.T) {
	for in, want := range envFileCases {
		got, err := ParseEnvFile(".env", []byte(in), hostEnv)
		check(t, in, got, err, want)
	}
}

func TestParseLabel(t *testing.T) {
	for in, want := range map[string]any{"a=b=c": "a|b=c", "a": "a|", "a=": "a|", "": "error: label", "=b": "error: label", " =b": "error: label", "a\x00": "error: label"} {
		key, value, err := ParseLabel(in)
		check(t, in, key+"|"+value, err, want)
	}
}

// Whatever parses as a mount must make a spec that the guest takes.
func checkMountWorks(t *testing.T, in string, m oci.Mount) {
	t.Helper()
	if m.Type == oci.MountBind && !strings.HasPrefix(m.Source, "/") {
		m.Source = "/resolved"
	}
	if m.Type == oci.MountVolume {
		m.Source = ""
	}
	spec, err := oci.Generate(imagespec.ImageConfig{Cmd: []string{"sh"}}, oci.RunOptions{Mounts: []oci.Mount{m}})
	if err != nil {
		if !strings.Contains(err.Error(), "/proc") {
			t.Errorf("%q: %v", in, err)
		}
		return
	}
	if _, err := oci.Guest(spec, oci.GuestOptions{ID: "c"}); err != nil {
		t.Errorf("%q: %v", in, err)
	}
}

func FuzzParseVolume(f *testing.F) {
	for s := range volumeCases {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseVolume(s); err == nil {
			source := ""
			if v.Source != "" {
				source = "/resolved"
			}
			checkMountWorks(t, s, v.Mount(source))
		}
	})
}

func FuzzParseMount(f *testing.F) {
	for s := range mountCases {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParseMount(s); err == nil {
			checkMountWorks(t, s, m)
		}
	})
}

func FuzzParseTmpfs(f *testing.F) {
	for s := range tmpfsCases {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParseTmpfs(s); err == nil {
			checkMountWorks(t, s, m)
		}
	})
}

func FuzzParseSize(f *testing.F) {
	for s := range sizeCases {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseSize(s)
		if err != nil {
			return
		}
		if again, err := ParseSize(fmt.Sprint(n)); n < 0 || err != nil || again != n {
			t.Errorf("%q is %d, which is %d, %v", s, n, again, err)
		}
	})
}

func FuzzParseCPUs(f *testing.F) {
	f.Add("0.5")
	f.Add("1e9")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseCPUs(s)
		if err != nil {
			return
		}
		if _, err := oci.Generate(imagespec.ImageConfig{Cmd: []string{"sh"}}, oci.RunOptions{CPUs: n}); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzParsePort(f *testing.F) {
	for s := range portCases {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ports, err := ParsePort(s)
		if err == nil && len(ports) == 0 {
			t.Errorf("%q is no port at all", s)
		}
		for _, p := range ports {
			if p.GuestPort == 0 || p.Proto != "tcp" && p.Proto != "udp" {
				t.Errorf("%q: %+v", s, p)
			}
		}
	})
}

func FuzzParseEnvFile(f *testing.F) {
	for s := range envFileCases {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		env, err := ParseEnvFile("f", []byte(s), hostEnv)
		if err != nil {
			return
		}
		if _, err := oci.MergeEnv(nil, env); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzParseEnv(f *testing.F) {
	f.Add("A=b")
	f.Add("HOME")
	f.Fuzz(func(t *testing.T, s string) {
		entry, err := ParseEnv(s, hostEnv)
		if err != nil {
			return
		}
		if _, err := oci.MergeEnv(nil, []string{entry}); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzParseLabel(f *testing.F) {
	f.Add("a=b")
	f.Fuzz(func(t *testing.T, s string) {
		if key, value, err := ParseLabel(s); err == nil && key+"="+value != s && key != s {
			t.Errorf("%q became %q and %q", s, key, value)
		}
	})
}
