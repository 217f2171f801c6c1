package oci

import (
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// goldenRuns are generated, and translated for the guest, into testdata.
var goldenRuns = map[string]struct {
	image imagespec.ImageConfig
	run   RunOptions
}{
	"plain": {imagespec.ImageConfig{Cmd: []string{"sh"}}, RunOptions{}},
	"nginx": {
		imagespec.ImageConfig{
			Entrypoint: []string{"/docker-entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"},
			Env: []string{"PATH=/usr/sbin:/usr/bin", "VERSION=1.22"}, User: "www-data:adm", WorkingDir: "/srv/",
			StopSignal: "SIGQUIT", Volumes: map[string]struct{}{"/var/cache": {}, "/data": {}, "/var/cache/nginx/deep": {}},
			Labels: map[string]string{"run.oci.handler": "krun"},
		},
		RunOptions{
			Hostname: "web.example.org", TTY: true, ConsoleSize: &specs.Box{Height: 24, Width: 80}, ReadOnly: true, Init: true,
			Env: []string{"VERSION", "MODE=a=b"}, CPUs: 0.5, MemoryBytes: 256 << 20, NoNewPrivileges: true,
			CapDrop: []string{"all"}, CapAdd: []string{"net_bind_service", "CAP_SYS_ADMIN"},
			Mounts: []Mount{
				{Type: MountBind, Source: "/srv/data", Target: "/data/", ReadOnly: true},
				{Type: MountBind, Source: "/srv/hosts", Target: "/etc/hosts"},
				{Type: MountTmpfs, Target: "/tmp", Options: []string{"exec"}, Size: 1 << 20, Mode: 0o1777},
				{Type: MountTmpfs, Target: "/dev/shm", Size: 1 << 30},
			},
		},
	},
	"privileged": {imagespec.ImageConfig{Cmd: []string{"sh"}}, RunOptions{Privileged: true, User: "0:0", StopSignal: "9"}},
}

func TestGenerateGolden(t *testing.T) {
	for name, c := range goldenRuns {
		t.Run(name, func(t *testing.T) {
			c.run.ID, c.run.Arch = "0123456789abcdef", "amd64"
			spec, err := Generate(c.image, c.run)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".host.json"), toJSON(t, spec))
			plan, err := Guest(spec, GuestOptions{ID: c.run.ID})
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".guest.json"), toJSON(t, plan))
		})
	}
}

func toJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

func TestCommand(t *testing.T) {
	image := imagespec.ImageConfig{Entrypoint: []string{"/entry", "-x"}, Cmd: []string{"cmd", "arg"}}
	for name, c := range map[string]struct {
		image imagespec.ImageConfig
		run   RunOptions
		want  string
	}{
		"image":                   {image, RunOptions{}, "/entry -x cmd arg"},
		"args replace cmd":        {image, RunOptions{Args: []string{"a"}}, "/entry -x a"},
		"entrypoint clears cmd":   {image, RunOptions{Entrypoint: new("/e")}, "/e"},
		"entrypoint and args":     {image, RunOptions{Entrypoint: new("/e"), Args: []string{"a"}}, "/e a"},
		"no entrypoint, args":     {image, RunOptions{Entrypoint: new(""), Args: []string{"a"}}, "a"},
		"only cmd":                {imagespec.ImageConfig{Cmd: []string{"c"}}, RunOptions{}, "c"},
		"init":                    {image, RunOptions{Init: true, Args: []string{"a"}}, InitPath + " container-init -- /entry -x a"},
		"nothing":                 {imagespec.ImageConfig{}, RunOptions{}, "error: no command specified"},
		"entrypoint cleared only": {image, RunOptions{Entrypoint: new("")}, "error: no command specified"},
		"empty name":              {imagespec.ImageConfig{}, RunOptions{Args: []string{""}}, "error: no command specified"},
		"NUL":                     {imagespec.ImageConfig{}, RunOptions{Args: []string{"a", "b\x00"}}, "error: argument 1"},
	} {
		got, err := command(c.image, c.run)
		checkResult(t, name, strings.Join(got, " "), err, c.want)
	}
}

// checkResult holds a result against want, which is "error: PART" for an
// invalid argument.
func checkResult(t *testing.T, name, got string, err error, want string) {
	t.Helper()
	part, fails := strings.CutPrefix(want, "error: ")
	switch {
	case !fails && err != nil:
		t.Errorf("%s: %v", name, err)
	case !fails && got != want:
		t.Errorf("%s: got %q, want %q", name, got, want)
	case fails && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), part)):
		t.Errorf("%s: want an invalid argument saying %q, got %q, %v", name, part, got, err)
	}
}

func TestEnvironment(t *testing.T) {
	image := imagespec.ImageConfig{Env: []string{"PATH=/bin", "A=1", "B=2"}}
	for name, c := range map[string]struct {
		image imagespec.ImageConfig
		run   RunOptions
		want  string
	}{
		"defaults":       {imagespec.ImageConfig{}, RunOptions{ID: "0123456789abcdef"}, "PATH=" + DefaultPath + "|HOSTNAME=0123456789ab"},
		"tty":            {image, RunOptions{Hostname: "h", TTY: true}, "PATH=/bin|HOSTNAME=h|TERM=xterm|A=1|B=2"},
		"user last":      {image, RunOptions{Hostname: "h", Env: []string{"A=x=y", "C=", "HOSTNAME=o"}}, "PATH=/bin|HOSTNAME=o|A=x=y|B=2|C="},
		"taken away":     {image, RunOptions{Hostname: "h", Env: []string{"A", "Z"}}, "PATH=/bin|HOSTNAME=h|B=2"},
		"TERM by user":   {image, RunOptions{Hostname: "h", TTY: true, Env: []string{"TERM=vt100"}}, "PATH=/bin|HOSTNAME=h|TERM=vt100|A=1|B=2"},
		"no name":        {image, RunOptions{Env: []string{"=x"}}, `error: environment entry "=x"`},
		"empty":          {image, RunOptions{Env: []string{""}}, `error: environment entry ""`},
		"NUL":            {image, RunOptions{Env: []string{"A=\x00"}}, "error: environment entry"},
		"bad image":      {imagespec.ImageConfig{Env: []string{"=1"}}, RunOptions{}, "error: environment entry"},
		"prefix of name": {image, RunOptions{Hostname: "h", Env: []string{"AB=1"}}, "PATH=/bin|HOSTNAME=h|A=1|B=2|AB=1"},
	} {
		got, err := environment(c.image, c.run)
		checkResult(t, name, strings.Join(got, "|"), err, c.want)
	}
}

func TestCapabilities(t *testing.T) {
	def := strings.Join(defaultCapabilities, " ")
	all := strings.Join(allCapabilities, " ")
	for name, c := range map[string]struct {
		run  RunOptions
		want string
	}{
		"default":       {RunOptions{}, def},
		"drop":          {RunOptions{CapDrop: []string{"chown"}}, strings.TrimPrefix(def, "CAP_CHOWN ")},
		"drop all, add": {RunOptions{CapDrop: []string{"ALL"}, CapAdd: []string{"KILL", "CAP_CHOWN"}}, "CAP_CHOWN CAP_KILL"},
		"add all, drop": {RunOptions{CapAdd: []string{"all"}, CapDrop: []string{"CHOWN"}}, strings.TrimPrefix(all, "CAP_CHOWN ")},
		"add wins":      {RunOptions{CapAdd: []string{"CHOWN"}, CapDrop: []string{"CHOWN"}}, def},
		"privileged":    {RunOptions{Privileged: true, CapDrop: []string{"ALL"}}, all},
		"typo":          {RunOptions{CapAdd: []string{"NET_ADMN"}}, `error: --cap-add: unknown capability "NET_ADMN" (did you mean CAP_NET_ADMIN?)`},
		"nonsense":      {RunOptions{CapDrop: []string{"WHATEVER"}}, `error: --cap-drop: unknown capability "WHATEVER": `},
	} {
		got, err := capabilities(c.run)
		checkResult(t, name, strings.Join(got, " "), err, c.want)
	}
}

func TestGenerateRefuses(t *testing.T) {
	for want, run := range map[string]RunOptions{
		`user "a b"`:                           {User: "a b"},
		`user "a:b:c"`:                         {User: "a:b:c"},
		`user ":0"`:                            {User: ":0"},
		`user "a:"`:                            {User: "a:"},
		`4294967296 is above`:                  {User: "4294967296"},
		`working directory "tmp"`:              {WorkDir: "tmp"},
		`unknown signal "TREM"`:                {StopSignal: "TREM"},
		`signal number 99`:                     {StopSignal: "99"},
		`-1 is no number of CPUs`:              {CPUs: -1},
		`NaN is no number`:                     {CPUs: math.NaN()},
		`0.001 CPUs are too few`:               {CPUs: 0.001},
		`-5 is no amount`:                      {MemoryBytes: -5},
		`host name "a b"`:                      {Hostname: "a b"},
		`duplicate mount point "/a"`:           {Mounts: []Mount{{Type: MountTmpfs, Target: "/a"}, {Type: MountTmpfs, Target: "/a/"}}},
		`duplicate mount point "` + InitPath:   {Init: true, Mounts: []Mount{{Type: MountTmpfs, Target: InitPath}}},
		`mount target "a"`:                     {Mounts: []Mount{{Type: MountTmpfs, Target: "a"}}},
		`mount target "/a/.." is the root`:     {Mounts: []Mount{{Type: MountTmpfs, Target: "/a/.."}}},
		`mount target "/proc/sys" is in /proc`: {Mounts: []Mount{{Type: MountTmpfs, Target: "/proc/sys"}}},
		`bind source "x"`:                      {Mounts: []Mount{{Type: MountBind, Source: "x", Target: "/a"}}},
		`volume "v" at "/a"`:                   {Mounts: []Mount{{Type: MountVolume, Source: "v", Target: "/a"}}},
		`mount type "nfs"`:                     {Mounts: []Mount{{Type: "nfs", Target: "/a"}}},
		`a tmpfs has no source`:                {Mounts: []Mount{{Type: MountTmpfs, Source: "/x", Target: "/a"}}},
		`size -1 of the tmpfs`:                 {Mounts: []Mount{{Type: MountTmpfs, Size: -1, Target: "/a"}}},
	} {
		_, err := Generate(imagespec.ImageConfig{Cmd: []string{"sh"}}, run)
		checkResult(t, want, "", err, "error: "+want)
	}
	_, err := Generate(imagespec.ImageConfig{Cmd: []string{"sh"}, Volumes: map[string]struct{}{"/": {}}}, RunOptions{})
	checkResult(t, "image volume", "", err, `error: volume "/" of the image`)
}

func TestGenerateTakesFromImage(t *testing.T) {
	image := imagespec.ImageConfig{Cmd: []string{"sh"}, User: "app", WorkingDir: "rel/dir", StopSignal: "15"}
	spec, err := Generate(image, RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{spec.Process.User.Username, spec.Process.Cwd, spec.Annotations[StopSignalAnnotation]}
	if diff := cmp.Diff([]string{"app", "/rel/dir", "SIGTERM"}, got); diff != "" {
		t.Error(diff)
	}
	spec, err = Generate(image, RunOptions{User: "0", WorkDir: "/x/../y", StopSignal: "int", Privileged: true})
	if err != nil {
		t.Fatal(err)
	}
	got = []string{spec.Process.User.Username, spec.Process.Cwd, spec.Annotations[StopSignalAnnotation]}
	if diff := cmp.Diff([]string{"0", "/y", "SIGINT"}, got); diff != "" {
		t.Error(diff)
	}
	if spec.Linux.Seccomp != nil || spec.Linux.MaskedPaths != nil {
		t.Error("a privileged container is confined")
	}
}

// Whatever Generate makes, Guest must take.
func TestGuestTakesAnyGeneratedMount(t *testing.T) {
	spec, err := Generate(imagespec.ImageConfig{Cmd: []string{"sh"}, Volumes: map[string]struct{}{"/v": {}}}, RunOptions{
		Mounts: []Mount{
			{Type: MountVolume, Target: "/anon", ReadOnly: true},
			{Type: MountTmpfs, Target: "/ro", ReadOnly: true, Options: []string{"suid", "dev"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Guest(spec, GuestOptions{ID: "c"}); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/ro" })
	if diff := cmp.Diff([]string{"noexec", "rprivate", "suid", "dev", "ro"}, spec.Mounts[i].Options); diff != "" {
		t.Error(diff)
	}
	i = slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/anon" })
	if !slices.Contains(spec.Mounts[i].Options, "tmpcopyup") || !readOnly(spec.Mounts[i].Options) {
		t.Errorf("got %+v", spec.Mounts[i])
	}
}

func TestLabels(t *testing.T) {
	got := Labels(imagespec.ImageConfig{Labels: map[string]string{"a": "1", "b": "2"}}, RunOptions{Labels: map[string]string{"b": "3"}})
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "3"}, got); diff != "" {
		t.Error(diff)
	}
}
