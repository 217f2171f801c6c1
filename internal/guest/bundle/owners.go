package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/idmap"
)

// owners maps the ids of the container to those of the machine. A spec without
// mappings, as most are, is not taken apart for it.
func (s *spec) owners() (idmap.Map, error) {
	raw := s.rest[linuxField]
	if !bytes.Contains(raw, []byte(`"uidMappings"`)) {
		return idmap.Map{}, nil
	}
	var linux struct{ UIDMappings, GIDMappings []specs.LinuxIDMapping }
	if err := json.Unmarshal(raw, &linux); err != nil {
		return idmap.Map{}, fmt.Errorf("mappings of the spec: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return idmap.Of(linux.UIDMappings, linux.GIDMappings)
}
