package initd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/guest/stamp"
)

// AgentArg is the argument that makes this binary the agent.
const AgentArg = "agent"

// Run boots the guest and returns only if the VM cannot be powered off.
func Run() error {
	var times stamp.List
	times.Add("kernel")
	if err := boot(&times); err != nil {
		// The host shows the console's last lines to whoever waits.
		fmt.Fprintln(os.Stderr, "dougong: the guest cannot start:", err)
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	if err := runAgent(times); err != nil {
		fmt.Fprintln(os.Stderr, "dougong: the agent ended:", err)
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func boot(times *stamp.List) error {
	if err := enterRoot(); err != nil {
		return err
	}
	if err := mountAll(); err != nil {
		return err
	}
	if err := protectRuntime(containerRuntime); err != nil {
		return err
	}
	times.Add("mounts")
	if err := loadModules(modulesFile, "/sys/bus/pci/devices"); err != nil {
		return err
	}
	times.Add("modules")
	return enableControllers(cgroupRoot)
}

// runAgent starts the agent and reaps until it has ended. Exit status 0 asks
// for a power-off.
func runAgent(times stamp.List) error {
	agent := exec.Command("/proc/self/exe", AgentArg)
	agent.Args[0] = "dougong-agent"
	agent.Env = []string{"PATH=/usr/bin:/bin", "HOME=/root", "GOGC=100", "GODEBUG=asyncpreemptoff=1", times.Environ()}
	agent.Stdout, agent.Stderr = os.Stdout, os.Stderr
	if err := agent.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case pid == agent.Process.Pid && status.Signaled():
			return fmt.Errorf("killed by %v", status.Signal())
		case pid == agent.Process.Pid && status.ExitStatus() != 0:
			return fmt.Errorf("exit status %d", status.ExitStatus())
		case pid == agent.Process.Pid:
			return nil
		}
	}
}
