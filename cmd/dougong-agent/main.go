// Command dougong-agent is the first process of a guest and its agent: as pid
// 1 it sets the machine up and starts itself once more as the agent. It is also
// the small init of containers that want one.
package main

import (
	"errors"
	"fmt"
	"os"

	"dougong.dev/dougong/internal/guest/agent"
	"dougong.dev/dougong/internal/guest/containerinit"
	"dougong.dev/dougong/internal/guest/holder"
	"dougong.dev/dougong/internal/guest/initd"
	"dougong.dev/dougong/internal/version"
)

// containerInitArg makes this binary the small init of a container started
// with --init; it is pid 1 then too, of a container.
const containerInitArg = "container-init"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dougong-agent:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == initd.AgentArg:
		return agent.Run(version.String())
	case len(args) == 1 && args[0] == "--version":
		fmt.Println(version.String())
		return nil
	case len(args) == 1 && args[0] == holder.Arg:
		holder.Run()
		return nil
	case len(args) > 0 && args[0] == containerInitArg:
		os.Exit(containerinit.Run(args[1:]))
		return nil
	case os.Getpid() == 1:
		return initd.Run()
	default:
		return errors.New("this is the first process of a guest; it does nothing on a host")
	}
}
