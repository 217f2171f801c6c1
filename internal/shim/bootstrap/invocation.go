package bootstrap

import (
	"errors"
	"flag"
	"fmt"
	"strings"
)

// Invocation is the command line by which containerd calls a shim.
type Invocation struct {
	// Namespace and ID name the task.
	Namespace, ID string
	// Address is containerd's own gRPC address; it goes into the name of the socket.
	Address string
	// PublishBinary is of no use: events go over ttrpc.
	PublishBinary string
	// Bundle is set for delete only; otherwise it is the working directory.
	Bundle string
	// Socket, when set, is a path to serve on instead of the inherited socket.
	Socket string
	// Debug asks for more log lines.
	Debug bool
}

// Register defines containerd's flags.
func (i *Invocation) Register(flags *flag.FlagSet) {
	flags.StringVar(&i.Namespace, "namespace", "", "containerd namespace of the task")
	flags.StringVar(&i.ID, "id", "", "id of the task")
	flags.StringVar(&i.Address, "address", "", "gRPC address of containerd")
	flags.StringVar(&i.PublishBinary, "publish-binary", "", "ignored: events go to TTRPC_ADDRESS")
	flags.StringVar(&i.Bundle, "bundle", "", "bundle of the task, for delete (default: the working directory)")
	flags.StringVar(&i.Socket, "socket", "", "socket to serve on (default: the inherited one)")
	flags.BoolVar(&i.Debug, "debug", false, "log more")
}

// Validate returns an error unless the invocation names a task. The names
// become parts of paths.
func (i *Invocation) Validate() error {
	if i.Namespace == "" {
		return errors.New("-namespace is missing: this command is started by containerd")
	}
	for what, name := range map[string]string{"-namespace": i.Namespace, "-id": i.ID} {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return fmt.Errorf("%s %q is not a file name", what, name)
		}
	}
	return nil
}
