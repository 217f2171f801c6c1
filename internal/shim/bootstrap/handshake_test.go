package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// recorded is what a daemon has sent for task t1 in namespace default with
// the options of `ctr run --runtime-config-path /etc/dougong/none.toml`.
func recorded(t testing.TB, daemon string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "start-"+daemon+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func task() *Invocation {
	return &Invocation{Namespace: "default", ID: "t1", Address: "/run/containerd.sock"}
}

// TestHandshakeOfCRIO: it says that it knows newer answers, and does not.
func TestHandshakeOfCRIO(t *testing.T) {
	r, err := Read(bytes.NewReader(nil), &Invocation{Namespace: "default", ID: "t1"}, "2")
	if err != nil || r.Form != BareAddress {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestHandshakes(t *testing.T) {
	tests := map[string]struct {
		stdin      []byte
		maxVersion string
		form       Form
		config     string
		socketDir  string
	}{
		"1.6":                  {recorded(t, "1.6"), "", BareAddress, "/etc/dougong/none.toml", ""},
		"1.6 without options":  {nil, "", BareAddress, "", ""},
		"1.7":                  {recorded(t, "1.6"), "2", JSON, "/etc/dougong/none.toml", ""},
		"2.0 without options":  {nil, "2", JSON, "", ""},
		"2.4":                  {recorded(t, "2.4"), "2", Result, "/etc/dougong/none.toml", "/run/containerd/s"},
		"options like params":  {anyBytes(t, "t1", []byte("other")), "2", JSON, "", ""},
		"options of runc":      {anyBytes(t, "containerd.runc.v1.Options", []byte{8, 1}), "", BareAddress, "", ""},
		"options of old names": {anyBytes(t, "cri.runtimeoptions.v1.Options", []byte("\x12\x03/oc")), "", BareAddress, "/oc", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := Read(bytes.NewReader(tt.stdin), task(), tt.maxVersion)
			if err != nil {
				t.Fatal(err)
			}
			path, err := ConfigPath(r.Options, t.TempDir())
			if r.Form != tt.form || path != tt.config || r.SocketDir != tt.socketDir || err != nil {
				t.Errorf("got form %d, config %q, socket directory %q, %v", r.Form, path, r.SocketDir, err)
			}
		})
	}
}

func anyBytes(t *testing.T, url string, value []byte) []byte {
	t.Helper()
	data, err := proto.Marshal(&anypb.Any{TypeUrl: url, Value: value})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParamsOfAnotherTaskAreNone(t *testing.T) {
	for _, i := range []*Invocation{{Namespace: "default", ID: "t2", Address: "a"}, {Namespace: "k8s.io", ID: "t1", Address: "a"}} {
		r, err := Read(bytes.NewReader(recorded(t, "2.4")), i, "2")
		if err == nil && r.Form != JSON {
			t.Errorf("%+v: form %d", i, r.Form)
		}
	}
}

func TestReadErrors(t *testing.T) {
	huge := io.LimitReader(zeros{}, maxInput+2)
	if _, err := Read(huge, task(), ""); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("endless input gives %v", err)
	}
	if _, err := Read(strings.NewReader("\xff\xff"), task(), ""); err == nil {
		t.Error("noise is no error")
	}
	if _, err := Read(broken{}, task(), ""); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken pipe gives %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

const address = "unix:///run/containerd/s/0123"

func TestAnswerOfOldestForm(t *testing.T) {
	if got, err := BareAddress.Answer(address); string(got) != address || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAnswerInJSON(t *testing.T) {
	got, err := JSON.Answer(address)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":2,"address":"unix:///run/containerd/s/0123","protocol":"ttrpc"}`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
	// What containerd from 2.3 tries first must not take it for its own form.
	if err := proto.Unmarshal(got, new(bootapi.BootstrapResult)); err == nil {
		t.Error("the answer parses as BootstrapResult")
	}
	if !json.Valid(got) {
		t.Error("no JSON")
	}
}

func TestAnswerAsResult(t *testing.T) {
	data, err := Result.Answer(address)
	if err != nil {
		t.Fatal(err)
	}
	var got bootapi.BootstrapResult
	if err := proto.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != 3 || got.Address != address || got.Protocol != "ttrpc" {
		t.Errorf("got %v", &got)
	}
	var mounts types.MountCapabilities
	found, err := got.FindExtension(&mounts)
	if !found || err != nil {
		t.Fatalf("mount capabilities: %v, %v", found, err)
	}
	if diff := cmp.Diff([]string{"erofs", "ext4", "xfs"}, mounts.Types); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"format", "mkdir"}, mounts.Transforms); diff != "" {
		t.Error(diff)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(recorded(f, "1.6"))
	f.Add(recorded(f, "2.4"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Read(bytes.NewReader(data), task(), "2")
		if err == nil {
			_, _ = ConfigPath(r.Options, t.TempDir())
		}
	})
}
