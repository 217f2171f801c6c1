package bootstrap

import (
	"encoding/json"
	"fmt"
	"io"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Form is how the answer to start is written.
type Form int

// The forms of package documentation.
const (
	BareAddress Form = iota
	JSON
	Result
)

// Request is what containerd says on standard input.
type Request struct {
	Form Form
	// Options are the runtime's options, nil when there are none.
	Options *anypb.Any
	// SocketDir is where the socket goes; empty means containerd's default.
	SocketDir string
}

// maxInput bounds what is read from standard input.
const maxInput = 10 << 20

// Read reads the request. maxVersion is the environment's MAX_SHIM_VERSION. CRI-O
// sets that too, but reads a bare address; it has no address of its own.
func Read(stdin io.Reader, i *Invocation, maxVersion string) (*Request, error) {
	input, err := io.ReadAll(io.LimitReader(stdin, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(input) > maxInput {
		return nil, fmt.Errorf("read standard input: more than %d bytes", maxInput)
	}
	if r := readParams(input, i); r != nil {
		return r, nil
	}
	r := &Request{Form: BareAddress}
	if maxVersion != "" && i.Address != "" {
		r.Form = JSON
	}
	if len(input) > 0 {
		r.Options = new(anypb.Any)
		if err := proto.Unmarshal(input, r.Options); err != nil {
			return nil, fmt.Errorf("options on standard input: %w", err)
		}
	}
	return r, nil
}

// readParams returns nil unless the input is BootstrapParams for this very
// task: other messages parse as such, too.
func readParams(input []byte, i *Invocation) *Request {
	var params bootapi.BootstrapParams
	if len(input) == 0 || proto.Unmarshal(input, &params) != nil {
		return nil
	}
	if params.InstanceID != i.ID || params.Namespace != i.Namespace {
		return nil
	}
	r := &Request{Form: Result, SocketDir: params.GetSocketDir()}
	for _, e := range params.Extensions {
		if isOptions(e.GetValue()) {
			r.Options = e.GetValue()
		}
	}
	return r
}

// mountTypes are the mounts of a root file system that become disks of the VM
// and mountTransforms the preparations that are then made in the guest.
// containerd from 2.4 leaves both to a shim that says so.
var (
	mountTypes      = []string{"erofs", "ext4", "xfs"}
	mountTransforms = []string{"format", "mkdir"}
)

// Answer is what start writes to standard output for a shim at address.
func (f Form) Answer(address string) ([]byte, error) {
	switch f {
	case JSON:
		return json.Marshal(struct {
			Version  int    `json:"version"`
			Address  string `json:"address"`
			Protocol string `json:"protocol"`
		}{2, address, "ttrpc"})
	case Result:
		return result(address)
	default:
		return []byte(address), nil
	}
}

func result(address string) ([]byte, error) {
	mounts, err := anypb.New(&types.MountCapabilities{Types: mountTypes, Transforms: mountTransforms})
	if err != nil {
		return nil, fmt.Errorf("encode mount capabilities: %w", err)
	}
	// containerd names types without a prefix.
	mounts.TypeUrl = string((&types.MountCapabilities{}).ProtoReflect().Descriptor().FullName())
	return proto.Marshal(&bootapi.BootstrapResult{
		Version: 3, Address: address, Protocol: "ttrpc",
		Extensions: []*bootapi.Extension{{Value: mounts}},
	})
}
