package shim

import (
	"log/slog"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"
)

// maxDump bounds what one dump may say.
const maxDump = 1 << 20

// DumpStacks makes SIGUSR1 write the stacks of all goroutines to the log.
func DumpStacks() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1)
	go func() {
		for range signals {
			buf := make([]byte, maxDump)
			slog.Info("stacks of all goroutines", "dump", string(buf[:runtime.Stack(buf, true)]))
		}
	}()
}
