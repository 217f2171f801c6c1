package shim

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	api "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"dougong.dev/dougong/internal/sandbox"
)

// SandboxService answers containerd's Sandbox service: a pod is made by calls
// of its own, and not as the container that stands for it. That container is
// there all the same, for all that is known of a sandbox hangs on it; but its
// events are of nobody's concern.
type SandboxService struct {
	tasks *Service

	mu        sync.Mutex
	createdAt time.Time
}

var _ api.TTRPCSandboxService = (*SandboxService)(nil)

// CreateSandbox boots the pod's VM.
func (s *SandboxService) CreateSandbox(ctx context.Context, r *api.CreateSandboxRequest) (*api.CreateSandboxResponse, error) {
	config, err := podConfig(r.Options)
	if err != nil {
		return nil, err
	}
	if err := checkUsers(config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions()); err != nil {
		return nil, err
	}
	files, err := podFiles(config, os.ReadFile)
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(podSpec(r.SandboxID, r.NetnsPath, config, r.Annotations))
	if err != nil {
		return nil, fmt.Errorf("encode the spec of pod %s: %w", r.SandboxID, err)
	}
	if err := os.WriteFile(filepath.Join(r.BundlePath, "config.json"), spec, 0o600); err != nil {
		return nil, fmt.Errorf("keep the spec of pod %s: %w", r.SandboxID, err)
	}
	s.tasks.makePod(r.SandboxID, files)
	if _, err := s.tasks.Create(ctx, &task.CreateTaskRequest{ID: r.SandboxID, Bundle: r.BundlePath}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.createdAt = time.Now()
	return &api.CreateSandboxResponse{}, nil
}

// StartSandbox says that the pod is there, and which process stands for it.
func (s *SandboxService) StartSandbox(ctx context.Context, r *api.StartSandboxRequest) (*api.StartSandboxResponse, error) {
	resp, err := s.tasks.Start(ctx, &task.StartRequest{ID: r.SandboxID})
	if err != nil {
		return nil, err
	}
	return &api.StartSandboxResponse{Pid: resp.Pid, CreatedAt: s.created()}, nil
}

func (s *SandboxService) created() *timestamppb.Timestamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	return timestamppb.New(s.createdAt)
}

// Platform is that of the guest, which is the host's.
func (s *SandboxService) Platform(context.Context, *api.PlatformRequest) (*api.PlatformResponse, error) {
	return &api.PlatformResponse{Platform: &types.Platform{OS: "linux", Architecture: runtime.GOARCH}}, nil
}

// StopSandbox ends the pod's VM and all that runs in it.
func (s *SandboxService) StopSandbox(ctx context.Context, r *api.StopSandboxRequest) (*api.StopSandboxResponse, error) {
	c, err := s.tasks.container(r.SandboxID)
	if err != nil {
		return nil, err
	}
	if c.Init().State() != sandbox.Stopped {
		if _, err := s.tasks.Kill(ctx, &task.KillRequest{ID: r.SandboxID, Signal: uint32(unix.SIGKILL)}); err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
	}
	select {
	case <-s.tasks.current().Done():
		return &api.StopSandboxResponse{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// WaitSandbox answers when the pod has ended.
func (s *SandboxService) WaitSandbox(ctx context.Context, r *api.WaitSandboxRequest) (*api.WaitSandboxResponse, error) {
	resp, err := s.tasks.Wait(ctx, &task.WaitRequest{ID: r.SandboxID})
	if err != nil {
		return nil, err
	}
	return &api.WaitSandboxResponse{ExitStatus: resp.ExitStatus, ExitedAt: resp.ExitedAt}, nil
}

// The states of a sandbox, as CRI calls them.
const (
	sandboxReady    = "SANDBOX_READY"
	sandboxNotReady = "SANDBOX_NOTREADY"
)

// SandboxStatus reports where the pod is in its life.
func (s *SandboxService) SandboxStatus(ctx context.Context, r *api.SandboxStatusRequest) (*api.SandboxStatusResponse, error) {
	state, err := s.tasks.State(ctx, &task.StateRequest{ID: r.SandboxID})
	if err != nil {
		return nil, err
	}
	resp := &api.SandboxStatusResponse{SandboxID: r.SandboxID, Pid: state.Pid, State: sandboxNotReady, CreatedAt: s.created(), ExitedAt: state.ExitedAt}
	if c, err := s.tasks.container(r.SandboxID); err == nil && c.Init().State() == sandbox.Running {
		resp.State = sandboxReady
	}
	return resp, nil
}

// PingSandbox answers as long as this process does.
func (s *SandboxService) PingSandbox(context.Context, *api.PingRequest) (*api.PingResponse, error) {
	return &api.PingResponse{}, nil
}

// ShutdownSandbox ends the pod, if it has not ended, and then this process.
func (s *SandboxService) ShutdownSandbox(ctx context.Context, r *api.ShutdownSandboxRequest) (*api.ShutdownSandboxResponse, error) {
	_, err := s.StopSandbox(ctx, &api.StopSandboxRequest{SandboxID: r.SandboxID})
	if err == nil {
		_, err = s.tasks.Delete(ctx, &task.DeleteRequest{ID: r.SandboxID})
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, err
	}
	s.tasks.shutdown()
	return &api.ShutdownSandboxResponse{}, nil
}

// SandboxMetrics are what the pod takes of the host.
func (s *SandboxService) SandboxMetrics(_ context.Context, r *api.SandboxMetricsRequest) (*api.SandboxMetricsResponse, error) {
	if _, err := s.tasks.container(r.SandboxID); err != nil {
		return nil, err
	}
	metrics, err := s.tasks.current().Metrics()
	if err != nil {
		return nil, err
	}
	return &api.SandboxMetricsResponse{Metrics: &types.Metric{Timestamp: timestamppb.Now(), ID: r.SandboxID, Data: metrics}}, nil
}

// UpdateSandbox takes what is changed in containerd's own records only.
func (s *SandboxService) UpdateSandbox(context.Context, *api.UpdateSandboxRequest) (*api.UpdateSandboxResponse, error) {
	return &api.UpdateSandboxResponse{}, nil
}
