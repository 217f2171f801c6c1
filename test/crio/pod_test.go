package crio

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/test/enclave"
)

// object is a part of a configuration of CRI's.
type object map[string]any

// write writes a configuration into a file of the test's.
func write(t *testing.T, name string, o object) string {
	t.Helper()
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name+".json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pod is one that a test works with.
type pod struct {
	t                *testing.T
	id, config, logs string
}

// newPod runs a pod with one of the kinds, which ends with the test.
func newPod(t *testing.T, kind string, more object) *pod {
	t.Helper()
	p := &pod{t: t, logs: t.TempDir()}
	name := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	config := object{"metadata": object{"name": name, "namespace": "test", "uid": name}, "hostname": "podname", "log_directory": p.logs, "linux": object{"cgroup_parent": "/pods"}}
	maps.Copy(config, more)
	p.config = write(t, "pod", config)
	p.id = crictl.Must(t, "runp", "--runtime", kind, p.config)
	t.Cleanup(p.remove)
	return p
}

// remove removes the pod once.
func (p *pod) remove() {
	p.t.Helper()
	if p.id == "" {
		return
	}
	if out, err := crictl.Run("rmp", "--force", p.id); err != nil {
		p.t.Error(out, err)
	}
	p.id = ""
}

// container makes and starts a container.
func (p *pod) container(name, script string, more object) string {
	p.t.Helper()
	config := object{"metadata": object{"name": name}, "image": object{"image": "localhost/busybox:latest"}, "command": []string{"sh", "-c", script}, "log_path": name + ".log", "linux": object{}}
	maps.Copy(config, more)
	id := crictl.Must(p.t, "create", "--no-pull", p.id, write(p.t, name, config), p.config)
	crictl.Must(p.t, "start", id)
	return id
}

// said waits until a container has said a text.
func (p *pod) said(name, text string) {
	p.t.Helper()
	enclave.Await(p.t, text, func() string {
		data, _ := os.ReadFile(filepath.Join(p.logs, name+".log"))
		return string(data)
	})
}

func inside(t *testing.T, id, script string) string {
	t.Helper()
	return crictl.Must(t, "exec", "--sync", id, "sh", "-c", script)
}

// ended waits until a container has ended, and returns its exit code.
func ended(t *testing.T, id string) int {
	t.Helper()
	var answer struct {
		Status struct {
			State    string
			ExitCode int
		}
	}
	enclave.Eventually(t, "the end of a container", func() (string, bool) {
		out := crictl.Must(t, "inspect", "--output", "json", id)
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Status.State, answer.Status.State == "CONTAINER_EXITED"
	})
	return answer.Status.ExitCode
}

func each(t *testing.T, test func(*testing.T, string)) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

const boot = "cat /proc/sys/kernel/random/boot_id"

// TestPod goes through the life of a pod with two containers.
func TestPod(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		p := newPod(t, kind, object{"port_mappings": []object{{"container_port": 80, "host_port": 8097}}})
		web := p.container("web", `echo hello >/tmp/index.html; echo ready; echo error >&2; exec httpd -f -p 80 -h /tmp`, nil)
		side := p.container("side", enclave.Sleeper, object{"linux": object{"resources": object{"memory_limit_in_bytes": 200 << 20}}})
		p.said("web", "stdout F ready")
		p.said("web", "stderr F error")
		p.said("side", "stdout F ready")
		if got := len(enclave.Processes(filepath.Join(suite.Bin, "containerd-shim"), 0)); got != 1 {
			t.Errorf("there are %d virtual machines", got)
		}
		ours, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			t.Fatal(err)
		}
		if one, other := inside(t, web, boot), inside(t, side, boot); one != other || one == strings.TrimSpace(string(ours)) {
			t.Errorf("the kernels were booted as %q and %q", one, other)
		}
		enclave.Serves(t, "http://10.97.0.1:8097/index.html", "hello\n")
		if got := inside(t, side, "wget -q -O - http://127.0.0.1/index.html; hostname; cat /sys/fs/cgroup/memory.max"); got != "hello\npodname\n209715200" {
			t.Errorf("the other container says %q", got)
		}
		crictl.Fails(t, "3", "exec", "--sync", side, "sh", "-c", "echo out; exit 3")
		if got := crictl.Must(t, "logs", web); got != "ready" {
			t.Errorf("logs are %q", got)
		}
		crictl.Must(t, "stop", "--timeout", "10", side)
		if got := ended(t, side); got != 5 {
			t.Errorf("the container that was stopped ended with %d", got)
		}
		crictl.Must(t, "rm", side)
		if got := inside(t, web, "echo still here"); got != "still here" {
			t.Errorf("exec prints %q", got)
		}
		crictl.Must(t, "stopp", p.id)
		if got := crictl.Must(t, "pods", "--id", p.id, "--state", "NotReady", "--quiet"); got != p.id {
			t.Errorf("after its stop the pods that are not ready are %q", got)
		}
		p.remove()
		enclave.Eventually(t, "the virtual machine to go", func() (string, bool) {
			left := enclave.Processes(filepath.Join(suite.Bin, "containerd-shim"), 0)
			return fmt.Sprint(left), len(left) == 0
		})
	})
}

// TestStats has numbers for a container where CRI-O asks for them. Else it looks
// at a cgroup of the container's own, which there is not.
func TestStats(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		p := newPod(t, kind, nil)
		id := p.container("busy", enclave.Sleeper, nil)
		p.said("busy", "ready")
		var answer struct {
			Stats []struct {
				Memory struct{ WorkingSetBytes struct{ Value string } }
			}
		}
		out := crictl.Must(t, "stats", "--output", "json", id)
		if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Stats) != 1 {
			t.Fatalf("stats are %s, %v", out, err)
		}
		if got := answer.Stats[0].Memory.WorkingSetBytes.Value; got == "" || (got != "0") != (kind == "vm") {
			t.Errorf("it takes %q bytes", got)
		}
	})
}

// TestExit has the codes of containers that end by themselves, and one that
// cannot start.
func TestExit(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		p := newPod(t, kind, nil)
		if got := ended(t, p.container("seven", "echo said; exit 7", nil)); got != 7 {
			t.Errorf("it ended with %d", got)
		}
		p.said("seven", "stdout F said")
		config := write(t, "missing", object{"metadata": object{"name": "missing"}, "image": object{"image": "localhost/busybox:latest"}, "command": []string{"missing"}, "log_path": "missing.log", "linux": object{}})
		id, err := crictl.Run("create", "--no-pull", p.id, config, p.config)
		if err == nil {
			_, err = crictl.Run("start", id)
		}
		if err == nil || !strings.Contains(err.Error(), "executable file not found") {
			t.Errorf("a command that is not there: %v", err)
		}
	})
}

// TestUserNamespace runs a pod as Kubernetes does with hostUsers: false.
func TestUserNamespace(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		ids := []object{{"host_id": 1 << 20, "container_id": 0, "length": 65536}}
		context := object{"security_context": object{"namespace_options": object{"pid": 1, "userns_options": object{"mode": 0, "uids": ids, "gids": ids}}}}
		linux := maps.Clone(context)
		linux["cgroup_parent"] = "/pods"
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		p := newPod(t, kind, object{"linux": linux})
		id := p.container("users", enclave.Sleeper, object{
			"linux":  context,
			"mounts": []object{{"container_path": "/data", "host_path": dir, "uidMappings": ids, "gidMappings": ids}},
		})
		p.said("users", "stdout F ready")
		if got := inside(t, id, "id -u; tr -s ' ' </proc/self/uid_map; stat -c '%u:%g' / /bin/busybox /data; echo new >/data/new; chown 5:6 /data/new; stat -c '%u:%g' /data/new"); got != "0\n 0 1048576 65536\n0:0\n0:0\n0:0\n5:6" {
			t.Errorf("the container says %q", got)
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "new"), &st); err != nil || st.Uid != 5 || st.Gid != 6 {
			t.Errorf("on the host the file belongs to %d:%d, %v", st.Uid, st.Gid, err)
		}
	})
}
