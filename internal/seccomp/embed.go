package seccomp

import (
	"encoding/base64"
	"log/slog"
	"maps"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// programAnnotation is where crun takes a finished program from.
const programAnnotation = "run.oci.seccomp_bpf_data"

// Embed puts the program of a guest's spec in the place of its profile's
// rules, where it can be made here. The rest of the profile stays: crun reads
// the flags of seccomp(2) there.
func Embed(spec *specs.Spec) {
	if spec.Linux == nil || spec.Linux.Seccomp == nil {
		return
	}
	program, err := Compile(spec.Linux.Seccomp)
	if err != nil {
		// The runtime in the guest takes it as it is.
		slog.Debug("seccomp profile is not compiled here", "reason", err)
		return
	}
	profile := *spec.Linux.Seccomp
	profile.Syscalls = nil
	spec.Linux.Seccomp = &profile
	annotations := map[string]string{programAnnotation: base64.StdEncoding.EncodeToString(program)}
	maps.Copy(annotations, spec.Annotations)
	spec.Annotations = annotations
}
