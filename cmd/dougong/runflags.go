package main

import (
	"github.com/spf13/pflag"
)

// runOptions are the flags of dougong run.
type runOptions struct {
	interactive, tty, remove, detach bool
	readOnly, privileged, init       bool
	name, hostname, workdir, user    string
	entrypoint, stopSignal           string
	entrypointSet                    func() bool
	env, envFiles, labels            []string
	volumes, mounts, tmpfs           []string
	capAdd, capDrop                  []string
	securityOpts                     []string
	ports, dns                       []string
	network, memory, cpus            string
	pull, platform                   string
	quiet, noTemplate                bool
	timing                           string
	bundle                           bundleFlags
	keep                             bool
}

func (o *runOptions) register(f *pflag.FlagSet) {
	f.SetInterspersed(false)
	f.BoolVarP(&o.interactive, "interactive", "i", false, "connect standard input")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the command a terminal")
	f.BoolVar(&o.remove, "rm", false, "remove the container when it ends")
	f.BoolVarP(&o.detach, "detach", "d", false, "leave the container running and print its id")
	f.StringVar(&o.name, "name", "", "name of the container (default: one is made up)")
	f.StringVarP(&o.hostname, "hostname", "h", "", "host name in the container (default: the first 12 digits of its id)")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "set a label: NAME=VALUE")
	o.registerProcess(f)
	o.registerFiles(f)
	o.registerMachine(f)
	o.bundle.register(f, "")
	f.BoolVar(&o.keep, "keep", false, "with --bundle: do not delete the container after its end")
	f.Bool("no-subreaper", false, "accepted for callers of other OCI runtimes")
	_ = f.MarkHidden("no-subreaper")
	f.StringVar(&o.timing, "timing", "", "tell on standard error how long each phase of the start took: text or json")
	f.Lookup("timing").NoOptDefVal = timingText
	// Docker's short form of --hostname takes the letter; --help stays.
	f.Bool("help", false, "show this help")
}

func (o *runOptions) registerProcess(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.env, "env", "e", nil, "set an environment variable: NAME=VALUE, or NAME to pass ours on")
	f.StringArrayVar(&o.envFiles, "env-file", nil, "read environment variables from a file")
	f.StringVarP(&o.workdir, "workdir", "w", "", "working directory")
	f.StringVarP(&o.user, "user", "u", "", "user of the command: NAME|UID[:GROUP|GID]")
	f.StringVar(&o.entrypoint, "entrypoint", "", "replace the image's entrypoint and forget its command")
	o.entrypointSet = func() bool { return f.Changed("entrypoint") }
	f.StringVar(&o.stopSignal, "stop-signal", "", "signal by which 'dougong stop' asks the command to end")
	f.BoolVar(&o.init, "init", false, "run a small init that forwards signals and reaps processes")
	f.StringArrayVar(&o.capAdd, "cap-add", nil, "add a capability, or ALL")
	f.StringArrayVar(&o.capDrop, "cap-drop", nil, "drop a capability, or ALL")
	f.BoolVar(&o.privileged, "privileged", false, "give the command all rights over its virtual machine (never over the host)")
	f.StringArrayVar(&o.securityOpts, "security-opt", nil, "no-new-privileges")
}

func (o *runOptions) registerFiles(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "share a host path: SRC:DST[:ro]; DST alone is an anonymous volume")
	f.StringArrayVar(&o.mounts, "mount", nil, "mount in long form: type=bind|tmpfs|volume,src=…,dst=…[,readonly]")
	f.StringArrayVar(&o.tmpfs, "tmpfs", nil, "mount a file system in memory: PATH[:OPTIONS]")
	f.BoolVar(&o.readOnly, "read-only", false, "make the root file system read-only")
}

// registerShape adds the flags that decide of which template a machine is.
func (o *runOptions) registerShape(f *pflag.FlagSet) {
	f.StringVar(&o.cpus, "cpus", "", "CPUs of the virtual machine; a fraction also limits CPU time (default: vm.cpus)")
	f.StringVarP(&o.memory, "memory", "m", "", "memory of the virtual machine: 256m, 1g (default: vm.memory_mib)")
	f.StringVar(&o.network, "network", "", "none or user (default: network.mode)")
}

func (o *runOptions) registerMachine(f *pflag.FlagSet) {
	o.registerShape(f)
	f.StringArrayVarP(&o.ports, "publish", "p", nil, "lead a host port into the container: [IP:][HOST:]CONTAINER[/udp]")
	f.StringArrayVar(&o.dns, "dns", nil, "name server of the container (default: that of the host)")
	f.BoolVar(&o.noTemplate, "no-template", false, "boot the virtual machine instead of cloning a saved one (default: template.enabled)")
	f.StringVar(&o.pull, "pull", "missing", "when to pull the image: missing, always or never")
	f.StringVar(&o.platform, "platform", "", "platform of the image: OS/ARCH (default: this host's)")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "show no progress of a pull")
}
