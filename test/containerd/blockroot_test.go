package containerd

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// The devmapper snapshotter gives a container a block device with a file
// system. Where the kernel has no device mapper, a loop device is one too.
func TestRootOnBlockDevice(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		node, _ := loopDevice(t)
		tree := rootfs(t)
		// Debian's ctr would take the -c of a shell for its own.
		script := "/bin/busybox grep ' / ' /proc/mounts; echo written >/tmp/f; exit 5"
		if err := os.WriteFile(filepath.Join(tree, "script"), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mkfs.ext4", "-q", "-d", tree, node).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		d.ok(t, append(append([]string{"container", "create"}, flags()[1:]...), imageName, "blockroot", "/bin/busybox", "sh", "/script")...)
		t.Cleanup(func() { d.remove("blockroot") })

		output := filepath.Join(t.TempDir(), "output")
		status := d.runTask(t, &tasks.CreateTaskRequest{
			ContainerID: "blockroot", Stdout: "file://" + output, Stderr: "file://" + output,
			Rootfs: []*types.Mount{{Type: "ext4", Source: node, Options: []string{"rw"}}},
		})
		got, err := os.ReadFile(output)
		if err != nil || status != 5 || !bytes.HasPrefix(got, []byte("/dev/vd")) || !bytes.Contains(got, []byte(" / ext4 ")) {
			t.Errorf("exit %d, %v; the root file system is %q", status, err, got)
		}
		// debugfs reads the device itself: what was written has to be on it.
		back, err := exec.Command("debugfs", "-R", "cat /tmp/f", node).Output()
		if string(back) != "written\n" {
			t.Errorf("the device holds %q, %v", back, err)
		}
	})
}

// runTask runs a task by containerd's API, which takes a root file system of
// the caller's, and returns its exit status.
func (d *daemon) runTask(t *testing.T, request *tasks.CreateTaskRequest) uint32 {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+d.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "containerd-namespace", "default"), patience)
	defer cancel()
	call := func(method string, request, response any) {
		if err := conn.Invoke(ctx, "/containerd.services.tasks.v1.Tasks/"+method, request, response); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
	}
	var exit tasks.WaitResponse
	call("Create", request, &tasks.CreateTaskResponse{})
	call("Start", &tasks.StartRequest{ContainerID: request.ContainerID}, &tasks.StartResponse{})
	call("Wait", &tasks.WaitRequest{ContainerID: request.ContainerID}, &exit)
	call("Delete", &tasks.DeleteTaskRequest{ContainerID: request.ContainerID}, &tasks.DeleteResponse{})
	return exit.ExitStatus
}
