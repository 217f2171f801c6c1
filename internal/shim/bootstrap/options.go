package bootstrap

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// optionsName is the message that carries a runtime's options. containerd
// before 1.6 had it in a package of CRI's.
const optionsName = "runtimeoptions.v1.Options"

func isOptions(any *anypb.Any) bool {
	return typeName(any) == optionsName || typeName(any) == "cri."+optionsName
}

// typeName is a type URL without its host part.
func typeName(any *anypb.Any) string {
	url := any.GetTypeUrl()
	return url[strings.LastIndexByte(url, '/')+1:]
}

// configBody is the file beside the spec that keeps a configuration given in
// the options as text.
const configBody = "dougong-config.toml"

// ConfigPath returns the configuration file that options name, empty without
// one. A configuration given as text is written into the bundle first. Options
// of other types, such as runc's, say nothing to this runtime.
func ConfigPath(options *anypb.Any, bundle string) (string, error) {
	if !isOptions(options) {
		return "", nil
	}
	var o runtimeoptions.Options
	if err := proto.Unmarshal(options.GetValue(), &o); err != nil {
		return "", fmt.Errorf("runtime options: %w", err)
	}
	if len(o.ConfigBody) == 0 {
		return o.ConfigPath, nil
	}
	path := filepath.Join(bundle, configBody)
	if err := os.WriteFile(path, o.ConfigBody, 0o600); err != nil {
		return "", fmt.Errorf("keep configuration from the runtime options: %w", err)
	}
	return path, nil
}
