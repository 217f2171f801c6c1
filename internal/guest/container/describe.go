package container

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"
)

// processURL is the name of an OCI process among containerd's types, which
// every client knows.
const processURL = "types.containerd.io/opencontainers/runtime-spec/1/Process"

// describe tells the command line and the user of a process, nil when it is
// gone.
func describe(proc string, pid int) (*anypb.Any, error) {
	dir := fmt.Sprintf("%s/%d", proc, pid)
	line, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return nil, nil //nolint:nilerr // A process that has ended is no error.
	}
	var stat syscall.Stat_t
	if err := syscall.Stat(dir, &stat); err != nil {
		return nil, nil //nolint:nilerr // The same.
	}
	process := specs.Process{User: specs.User{UID: stat.Uid, GID: stat.Gid}}
	if text := strings.TrimSuffix(string(line), "\x00"); text != "" {
		process.Args = strings.Split(text, "\x00")
	}
	value, err := json.Marshal(process)
	if err != nil {
		return nil, fmt.Errorf("describe process %d: %w", pid, err)
	}
	return &anypb.Any{TypeUrl: processURL, Value: value}, nil
}
