package bootstrap

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"dougong.dev/dougong/internal/oci"
)

// RuntimeName is how users name this runtime to containerd.
const RuntimeName = "io.containerd.dougong.v2"

// mountsAnnotation is how containerd 2.1 to 2.3 learn what Answer tells to
// later ones.
const mountsAnnotation = "containerd.io/runtime-allow-mounts"

// Info answers -info: the options that were given come back.
func Info(stdin io.Reader, version string) ([]byte, error) {
	input, err := io.ReadAll(io.LimitReader(stdin, maxInput))
	if err != nil {
		return nil, fmt.Errorf("read options: %w", err)
	}
	info := &types.RuntimeInfo{
		Name:    RuntimeName,
		Version: &types.RuntimeVersion{Version: version},
		Annotations: map[string]string{
			mountsAnnotation: strings.Join(mountsAllowed(), ","),
		},
	}
	if info.Features, err = describe(); err != nil {
		return nil, err
	}
	if len(input) > 0 {
		info.Options = new(anypb.Any)
		if err := proto.Unmarshal(input, info.Options); err != nil {
			return nil, fmt.Errorf("read options: %w", err)
		}
	}
	return proto.Marshal(info)
}

// featuresName is what containerd calls the specification's own description.
const featuresName = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// Features answers features: CRI-O asks a shim for them as it does an OCI runtime.
func Features() ([]byte, error) {
	value, err := json.Marshal(oci.Features())
	if err != nil {
		return nil, fmt.Errorf("encode features: %w", err)
	}
	return value, nil
}

// describe tells CRI what pods may ask for.
func describe() (*anypb.Any, error) {
	value, err := Features()
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: featuresName, Value: value}, nil
}

// mountsAllowed lists types, and transforms with the slash that marks them.
func mountsAllowed() []string {
	allowed := append([]string(nil), mountTypes...)
	for _, t := range mountTransforms {
		allowed = append(allowed, t+"/*")
	}
	return allowed
}
