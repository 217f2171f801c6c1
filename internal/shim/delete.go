package shim

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"dougong.dev/dougong/internal/shim/bootstrap"
)

// killedStatus is the exit status of a container whose sandbox process is gone.
const killedStatus = 128 + 9

// Delete cleans up after a sandbox process that is gone or does not answer,
// and returns the answer for containerd. It does all it can, whatever fails.
func Delete(bundle string) ([]byte, error) {
	if err := endTraced(bundle); err != nil {
		slog.Warn("end the sandbox", "error", err)
	}
	if err := bootstrap.RemoveSocket(bundle); err != nil && !os.IsNotExist(err) {
		slog.Warn("remove socket", "error", err)
	}
	// The sandbox process mounts in a namespace of its own, but containerd may
	// have mounted here.
	for _, dir := range []string{filepath.Join(bundle, "rootfs"), filepath.Join(stateDir(bundle), "shared")} {
		_ = unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if err := os.RemoveAll(stateDir(bundle)); err != nil {
		slog.Warn("remove state", "error", err)
	}
	answer, err := proto.Marshal(&task.DeleteResponse{ExitStatus: killedStatus, ExitedAt: timestamppb.New(time.Now())})
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return answer, nil
}
