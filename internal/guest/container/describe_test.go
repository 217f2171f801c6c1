package container

import (
	"encoding/json"
	"os"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestDescribe(t *testing.T) {
	info, err := describe("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var p specs.Process
	if err := json.Unmarshal(info.Value, &p); err != nil {
		t.Fatal(err)
	}
	if info.TypeUrl != processURL || len(p.Args) != len(os.Args) || p.Args[0] != os.Args[0] || p.User.UID != uint32(os.Geteuid()) {
		t.Errorf("%s: %+v, want %q", info.TypeUrl, p, os.Args)
	}
	if info, err := describe("/proc", 1<<30); info != nil || err != nil {
		t.Errorf("a process that is gone is %v, %v", info, err)
	}
}
