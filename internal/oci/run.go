package oci

import (
	"cmp"
	"maps"
	"math"
	"path"
	"runtime"
	"slices"
	"strings"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// StopSignalAnnotation carries the stop signal ("SIGTERM"), by the name the
// image specification gives it.
const StopSignalAnnotation = "org.opencontainers.image.stopSignal"

// RunOptions is what `dougong run` was told, in the terms of Docker's flags.
type RunOptions struct {
	// ID of the container; its first 12 characters are the default host name.
	ID string
	// Args replace the image's Cmd when not empty.
	Args []string
	// Entrypoint replaces the image's and clears its Cmd; a pointer to ""
	// clears both. nil keeps the image's.
	Entrypoint *string
	// Env is KEY=VALUE, or KEY to take a variable of the image away.
	Env      []string
	Hostname string
	// User is "user", "user:group" or numbers; empty means the image's.
	User string
	// WorkDir is absolute; empty means the image's.
	WorkDir string
	TTY     bool
	// ConsoleSize is the terminal's size at start; nil when not known.
	ConsoleSize *specs.Box
	ReadOnly    bool
	// CapAdd and CapDrop are names with or without CAP_, or ALL.
	CapAdd, CapDrop []string
	Privileged      bool
	NoNewPrivileges bool
	// Init runs a small init as pid 1 of the container.
	Init bool
	// CPUs limits CPU time, in CPUs; 0 is no limit.
	CPUs float64
	// MemoryBytes limits memory; 0 is no limit.
	MemoryBytes int64
	Mounts      []Mount
	// StopSignal replaces the image's; name or number.
	StopSignal string
	// DNS are the servers in the container's resolv.conf.
	DNS []string
	// Labels are merged over the image's by Labels.
	Labels map[string]string
	// Arch is a GOARCH; empty means this binary's.
	Arch string
}

// Generate writes the host spec of a container from its image's config and the
// options it is run with. User names are left in process.user.username, to be
// looked up in the guest. Errors about the options are errdefs.ErrInvalidArgument.
func Generate(image imagespec.ImageConfig, run RunOptions) (*specs.Spec, error) {
	run.Arch = cmp.Or(run.Arch, runtime.GOARCH)
	if err := checkHostname(HostnameOf(run)); err != nil {
		return nil, err
	}
	process, err := generateProcess(image, run)
	if err != nil {
		return nil, err
	}
	mounts, err := generateMounts(image, run)
	if err != nil {
		return nil, err
	}
	stop, err := stopSignal(image, run)
	if err != nil {
		return nil, err
	}
	resources, err := generateResources(run)
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{
		Version:     GuestVersion,
		Process:     process,
		Root:        &specs.Root{Path: "rootfs", Readonly: run.ReadOnly},
		Hostname:    HostnameOf(run),
		Mounts:      mounts,
		Annotations: map[string]string{StopSignalAnnotation: stop},
		Linux:       &specs.Linux{Resources: resources, Namespaces: newNamespaces()},
	}
	if !run.Privileged {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
		spec.Linux.Seccomp = DefaultSeccomp(run.Arch, process.Capabilities.Bounding)
	}
	return spec, nil
}

func generateProcess(image imagespec.ImageConfig, run RunOptions) (*specs.Process, error) {
	args, err := command(image, run)
	if err != nil {
		return nil, err
	}
	env, err := environment(image, run)
	if err != nil {
		return nil, err
	}
	user := cmp.Or(run.User, image.User)
	if err := checkUser(user); err != nil {
		return nil, err
	}
	cwd, err := workDir(image, run)
	if err != nil {
		return nil, err
	}
	caps, err := capabilities(run)
	if err != nil {
		return nil, err
	}
	return &specs.Process{
		Terminal: run.TTY, ConsoleSize: run.ConsoleSize,
		User: specs.User{Username: user},
		Args: args, Env: env, Cwd: cwd,
		Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: slices.Clone(caps), Permitted: slices.Clone(caps)},
		Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 524288}},
		NoNewPrivileges: run.NoNewPrivileges,
	}, nil
}

// command joins entrypoint and command by Docker's rules.
func command(image imagespec.ImageConfig, run RunOptions) ([]string, error) {
	entrypoint, args := image.Entrypoint, run.Args
	if run.Entrypoint != nil {
		entrypoint = nil
		if *run.Entrypoint != "" {
			entrypoint = []string{*run.Entrypoint}
		}
	} else if len(args) == 0 {
		args = image.Cmd
	}
	all := slices.Concat(entrypoint, args)
	if len(all) == 0 || all[0] == "" {
		return nil, invalid("no command specified: the image names none, so give one after the image")
	}
	if i := slices.IndexFunc(all, func(s string) bool { return strings.ContainsRune(s, 0) }); i >= 0 {
		return nil, invalid("argument %d of the command has a NUL byte", i)
	}
	if run.Init {
		all = slices.Concat([]string{InitPath, "container-init", "--"}, all)
	}
	return all, nil
}

// DefaultPath is $PATH where neither image nor user sets it.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment lays the user's variables over the image's over the defaults.
// Later entries replace earlier ones in place.
func environment(image imagespec.ImageConfig, run RunOptions) ([]string, error) {
	env := []string{"PATH=" + DefaultPath, "HOSTNAME=" + HostnameOf(run)}
	if run.TTY {
		env = append(env, "TERM=xterm")
	}
	return MergeEnv(env, slices.Concat(image.Env, run.Env))
}

// MergeEnv lays over on top of env: KEY=VALUE replaces or appends, KEY alone
// takes the variable away. env itself is not changed.
func MergeEnv(env, over []string) ([]string, error) {
	out := slices.Clone(env)
	for _, entry := range over {
		key, _, set := strings.Cut(entry, "=")
		if key == "" || strings.ContainsRune(entry, 0) {
			return nil, invalid("environment entry %q is not KEY=VALUE", entry)
		}
		at := slices.IndexFunc(out, func(e string) bool { return strings.HasPrefix(e, key+"=") })
		switch {
		case set && at >= 0:
			out[at] = entry
		case set:
			out = append(out, entry)
		case at >= 0:
			out = slices.Delete(out, at, at+1)
		}
	}
	return out, nil
}

// HostnameOf is the host name of a container run with these options.
func HostnameOf(run RunOptions) string {
	return cmp.Or(run.Hostname, run.ID[:min(len(run.ID), 12)])
}

func workDir(image imagespec.ImageConfig, run RunOptions) (string, error) {
	switch {
	case run.WorkDir == "":
		return path.Clean("/" + image.WorkingDir), nil
	case !path.IsAbs(run.WorkDir):
		return "", invalid("working directory %q is not absolute: it must start with /", run.WorkDir)
	}
	return path.Clean(run.WorkDir), nil
}

func stopSignal(image imagespec.ImageConfig, run RunOptions) (string, error) {
	sig, err := ParseSignal(cmp.Or(run.StopSignal, image.StopSignal, "SIGTERM"))
	if err != nil {
		return "", err
	}
	return SignalName(sig), nil
}

// cpuPeriod in µs is the kernel's and Docker's default.
const cpuPeriod = 100000

func generateResources(run RunOptions) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{Devices: deviceRules(run.Privileged)}
	switch {
	case math.IsNaN(run.CPUs) || run.CPUs < 0 || run.CPUs > 1<<20:
		return nil, invalid("%v is no number of CPUs", run.CPUs)
	case run.CPUs > 0 && run.CPUs < 0.01:
		return nil, invalid("%v CPUs are too few: the least is 0.01", run.CPUs)
	case run.CPUs > 0:
		r.CPU = &specs.LinuxCPU{Quota: new(int64(math.Round(run.CPUs * cpuPeriod))), Period: new(uint64(cpuPeriod))}
	}
	if run.MemoryBytes < 0 {
		return nil, invalid("%d is no amount of memory", run.MemoryBytes)
	}
	if run.MemoryBytes > 0 {
		r.Memory = &specs.LinuxMemory{Limit: new(run.MemoryBytes)}
	}
	return r, nil
}

// Labels are the image's labels with the user's laid over them. They stay on
// the host: as annotations an image could steer the runtime with them.
func Labels(image imagespec.ImageConfig, run RunOptions) map[string]string {
	out := map[string]string{}
	maps.Copy(out, image.Labels)
	maps.Copy(out, run.Labels)
	return out
}

func newNamespaces() []specs.LinuxNamespace {
	var out []specs.LinuxNamespace
	for _, t := range []specs.LinuxNamespaceType{
		specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace, specs.CgroupNamespace,
	} {
		out = append(out, specs.LinuxNamespace{Type: t})
	}
	return out
}
