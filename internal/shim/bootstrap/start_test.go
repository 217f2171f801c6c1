package bootstrap

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// The command lines are those of containerd 1.6 and 2.4.
func TestCommandLine(t *testing.T) {
	tests := map[string]struct {
		line string
		want Invocation
	}{
		"start": {
			"-namespace default -address /run/c.sock -publish-binary /usr/bin/containerd -id t1 -debug start",
			Invocation{Namespace: "default", ID: "t1", Address: "/run/c.sock", PublishBinary: "/usr/bin/containerd", Debug: true},
		},
		"delete": {
			"-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id t1 -bundle /run/b/t1 delete",
			Invocation{Namespace: "k8s.io", ID: "t1", Address: "/run/c.sock", PublishBinary: "/usr/bin/containerd", Bundle: "/run/b/t1"},
		},
	}
	for action, tt := range tests {
		var got Invocation
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		got.Register(flags)
		if err := flags.Parse(strings.Fields(tt.line)); err != nil {
			t.Fatal(err)
		}
		if got != tt.want || flags.Arg(0) != action || got.Validate() != nil {
			t.Errorf("%s: got %+v, %q", action, got, flags.Args())
		}
	}
}

func TestNamesThatAreNoFileNames(t *testing.T) {
	for _, i := range []Invocation{{ID: "t1"}, {Namespace: "a"}, {Namespace: "a/b", ID: "t1"}, {Namespace: "a", ID: ".."}, {Namespace: "a", ID: "x\x00"}} {
		if i.Validate() == nil {
			t.Errorf("%+v is accepted", i)
		}
	}
}

func TestSocketAddress(t *testing.T) {
	// As containerd computes it: it looks for shims by this name.
	const want = "unix:///run/containerd/s/"
	got := SocketAddress("", "/run/containerd/containerd.sock", "default", "t1")
	if !strings.HasPrefix(got, want) || len(got) != len(want)+64 {
		t.Errorf("got %q", got)
	}
	if other := SocketAddress("/x", "/run/containerd/containerd.sock", "default", "t1"); other != "unix:///x/"+got[len(want):] {
		t.Errorf("in another directory: %q", other)
	}
	for _, other := range []string{
		SocketAddress("", "/run/other.sock", "default", "t1"), SocketAddress("", "/run/containerd/containerd.sock", "default", "t2"),
		SocketAddress("", "/run/containerd/containerd.sock", "k8s.io", "t1"),
	} {
		if other == got {
			t.Errorf("%q is used twice", got)
		}
	}
}

func TestSocketOfADeadShimIsReplaced(t *testing.T) {
	at := scheme + filepath.Join(t.TempDir(), "s", "sock")
	for range 2 {
		f, err := listen(at)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := listen(at); !errdefs.IsAlreadyExists(err) {
			t.Errorf("a socket that is served gives %v", err)
		}
		info, err := os.Stat(socketPath(at))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket is %v, %v", info, err)
		}
		// The file stays when its shim is gone.
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		_, _ = l.Close(), f.Close()
	}
}

func TestRemoveSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeAddress(dir, scheme+path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := RemoveSocket(dir); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
}

// A container of a pod is served by its sandbox's process, whose socket stays
// when the container's bundle goes.
func TestStartJoinsTheSandbox(t *testing.T) {
	// Short, for the address of a socket.
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	address := SocketAddress(dir, "", "default", "pod")
	socket, err := listen(address)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	bundle(t, `{"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"pod"}}`)
	if err := join(".", address, "t1", "pod"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(addressFile); string(got) != address || err != nil {
		t.Errorf("the bundle notes %q, %v", got, err)
	}
	if err := RemoveSocket("."); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socketPath(address)); err != nil {
		t.Errorf("the sandbox's socket is gone with a container: %v", err)
	}
}

func bundle(t *testing.T, config string) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("config.json", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestStartRefusals(t *testing.T) {
	options, err := proto.Marshal(&anypb.Any{TypeUrl: optionsName, Value: must(proto.Marshal(&runtimeoptions.Options{ConfigPath: "/none.toml"}))})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		config string
		stdin  []byte
		want   string
	}{
		"no container":          {"{", nil, "read OCI spec"},
		"a container of a pod":  {`{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}`, nil, "container t1 cannot join sandbox pod"},
		"missing configuration": {"{}", options, "/none.toml"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bundle(t, tt.config)
			_, err := Start(task(), bytes.NewReader(tt.stdin), func(string) string { return "" }, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v", err)
			}
			if left, _ := filepath.Glob("*"); len(left) != 1 {
				t.Errorf("left in the bundle: %q", left)
			}
		})
	}
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

func TestConfigurationInOptions(t *testing.T) {
	dir := t.TempDir()
	body := must(proto.Marshal(&runtimeoptions.Options{ConfigPath: "/ignored", ConfigBody: []byte("[vm]\ncpus = 2\n")}))
	path, err := ConfigPath(&anypb.Any{TypeUrl: "type.googleapis.com/" + optionsName, Value: body}, dir)
	if err != nil || filepath.Dir(path) != dir {
		t.Fatalf("got %q, %v", path, err)
	}
	if got, err := os.ReadFile(path); string(got) != "[vm]\ncpus = 2\n" || err != nil {
		t.Errorf("kept %q, %v", got, err)
	}
	if _, err := ConfigPath(&anypb.Any{TypeUrl: optionsName, Value: []byte("\xff")}, dir); err == nil {
		t.Error("noise is no error")
	}
}

func TestInfo(t *testing.T) {
	options := &anypb.Any{TypeUrl: optionsName, Value: []byte("\x12\x02/c")}
	data, err := Info(bytes.NewReader(must(proto.Marshal(options))), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	var got types.RuntimeInfo
	if err := proto.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "io.containerd.dougong.v2" || got.Version.GetVersion() != "1.2.3" || !proto.Equal(got.Options, options) {
		t.Errorf("got %v", &got)
	}
	if mounts := got.Annotations["containerd.io/runtime-allow-mounts"]; mounts != "erofs,ext4,xfs,format/*,mkdir/*" {
		t.Errorf("mounts are %q", mounts)
	}
	var known features.Features
	if err := json.Unmarshal(got.Features.GetValue(), &known); err != nil || !slices.Contains(known.MountOptions, "rro") {
		t.Errorf("features are %s, %v", got.Features.GetValue(), err)
	}
	// By these CRI lets pods have user namespaces.
	if idmap := known.Linux.MountExtensions.IDMap; !slices.Contains(known.Linux.Namespaces, "user") || idmap.Enabled == nil || !*idmap.Enabled {
		t.Errorf("features are %s", got.Features.GetValue())
	}
	if plain, err := Features(); !bytes.Equal(plain, got.Features.GetValue()) || err != nil {
		t.Errorf("features alone are %s, %v", plain, err)
	}
	if _, err := Info(io.MultiReader(strings.NewReader("\xff\xff")), ""); err == nil {
		t.Error("noise is no error")
	}
}
