package critest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// firstID is that of the host that a pod's root is, as the kubelet would choose.
const firstID = 1 << 20

// idJSON are the mappings of users or groups.
var idJSON = fmt.Sprintf(`[{"host_id":%d,"container_id":0,"length":65536}]`, firstID)

// usersJSON is the security context of a pod, or of a container of it, that has
// hostUsers: false.
var usersJSON = fmt.Sprintf(`"namespace_options":{"pid":1,"userns_options":{"mode":0,"uids":%[1]s,"gids":%[1]s}}`, idJSON)

// mappedJSON is a mount as the kubelet asks for it in such a pod.
func mappedJSON(target, source, more string) string {
	if more != "" {
		more = "," + more
	}
	return mountJSON(target, source, fmt.Sprintf(`"uidMappings":%[1]s,"gidMappings":%[1]s`, idJSON)+more)
}

func (c *client) usersPod(name string) (id, config string) {
	c.t.Helper()
	return c.pod(name, `"security_context":{`+usersJSON+`}`)
}

// usersParts are those of a container of such a pod.
func usersParts(more string, mounts ...string) string {
	if more != "" {
		more = "," + more
	}
	return `"mounts":[` + strings.Join(mounts, ",") + `],"linux":{"security_context":{` + usersJSON + more + `}}`
}

func (k *kubelet) owner(path string) string {
	k.t.Helper()
	var st unix.Stat_t
	k.check(unix.Lstat(path, &st))
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

// Pods with hostUsers: false have a user namespace in their guest, and the ids of
// files are mapped for it.
func TestUserNamespaces(t *testing.T) {
	for _, how := range [][2]string{{"podsandbox", "overlayfs"}, {"shim", "overlayfs"}, {"podsandbox", "erofs"}} {
		t.Run(how[0]+" "+how[1], func(t *testing.T) { testUserNamespaces(t, newClient(t, how[0], how[1])) })
	}
}

func testUserNamespaces(t *testing.T, c *client) {
	t.Helper()
	k := newKubelet(t, c)
	host, empty, config := filepath.Join(c.dir, "host"), k.volume("users", "empty-dir", "data"), k.volume("users", "configmap", "config")
	memory, log := k.volume("users", "empty-dir", "memory"), filepath.Join(c.dir, "termination-log")
	k.mount("tmpfs", memory, "size=1m,mode=777")
	k.check(os.Mkdir(host, 0o755), os.WriteFile(filepath.Join(host, "file"), []byte("host's"), 0o600), os.Chown(filepath.Join(host, "file"), 5, 6), os.WriteFile(log, nil, 0o666))
	k.publish(config, 1, map[string]string{"key": "one"})
	mounts := []string{
		k.tool(c), mappedJSON("/host", host, ""), mappedJSON("/data", empty, ""), mappedJSON("/config", config, `"readonly":true`),
		mappedJSON("/memory", memory, ""), mappedJSON("/dev/termination-log", log, ""),
	}
	pod, podConfig := c.usersPod("users")
	first := c.containerWith(pod, podConfig, "first", usersParts("", mounts...), "echo out >/dev/stdout; echo over >/dev/termination-log; exec sleep 1000")
	if out := c.in(first, "id -u; tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map"); out != fmt.Sprintf("0\n 0 %[1]d 65536\n 0 %[1]d 65536", firstID) {
		t.Errorf("ids are %s", out)
	}
	const look = "stat -c '%n %u:%g' / /bin/busybox /etc/hosts /etc/resolv.conf /etc/hostname /host /host/file /data /config/..data/key /memory /dev/termination-log"
	const want = "/ 0:0\n/bin/busybox 0:0\n/etc/hosts 0:0\n/etc/resolv.conf 0:0\n/etc/hostname 0:0\n/host 0:0\n/host/file 5:6\n/data 0:0\n/config/..data/key 0:4242\n/memory 0:0\n/dev/termination-log 0:0"
	if out := c.in(first, look); out != want {
		t.Errorf("files belong to\n%s", out)
	}
	const write = "for dir in / /host /data /memory /tmp /dev/shm; do echo new >$dir/new; chown 7:8 $dir/new; stat -c '%u:%g' $dir/new; done | uniq; echo more >>/etc/hosts; cat /host/file; grep -c more /etc/hosts; ls /sys/class/net; ls -d /sys/fs/cgroup/cgroup.procs; /tool ping"
	if out := c.in(first, write); out != "7:8\nhost's1\neth0\nlo\n/sys/fs/cgroup/cgroup.procs\nanswer 0" {
		t.Errorf("what is written gives %s", out)
	}
	for path, want := range map[string]string{host + "/new": "7:8", empty + "/new": "7:8", host + "/file": "5:6", log: "0:0"} {
		if got := k.owner(path); got != want {
			t.Errorf("on the host %s belongs to %s, want %s", path, got, want)
		}
	}
	if data, err := os.ReadFile(log); string(data) != "over\n" || err != nil {
		t.Errorf("the termination log has %q, %v", data, err)
	}
	if out := c.ok("logs", first); out != "out" {
		t.Errorf("log has %q", out)
	}
	second := c.containerWith(pod, podConfig, "second", usersParts(`"run_as_user":{"value":1000},"run_as_group":{"value":1001},"supplemental_groups":[4242],"readonly_rootfs":true`, mounts...), "echo user >/dev/stdout; exec sleep 1000")
	if out := c.in(second, "id -u; id -G; cat /config/key /data/new /memory/new /dev/shm/new; echo mine >/data/mine; echo mine >/memory/mine; stat -c '%u:%g' /data/mine /memory/mine; cat /host/file 2>/dev/null || echo kept out; touch /tmp/x 2>&1 | grep -o Read-only"); out != "1000\n1001 4242 50000\nonenew\nnew\nnew\n1000:1001\n1000:1001\nkept out\nRead-only" {
		t.Errorf("a user finds %s", out)
	}
	if got := k.owner(empty + "/mine"); got != "1000:1001" || c.ok("logs", second) != "user" {
		t.Errorf("on the host a user's file belongs to %s, and the log has %q", got, c.ok("logs", second))
	}
	if a, b := c.namespace(first, "user"), c.namespace(second, "user"); a != b {
		t.Errorf("user namespaces are %s and %s", a, b)
	}
	k.publish(config, 2, map[string]string{"key": "two"})
	c.eventually("the change is seen", func() bool { return c.in(second, "cat /config/key") == "two" })
	if out := c.in(second, "stat -c '%u:%g' /config/..data/key"); out != "0:4242" {
		t.Errorf("what has changed belongs to %s", out)
	}
	c.ok("stop", "-t", "0", first)
	c.ok("rm", first)
	again := c.containerWith(pod, podConfig, "first", usersParts("", mounts...), "cat /data/mine; exec sleep 1000")
	c.eventually("the container runs again", func() bool { return c.ok("logs", again) == "mine" })
	c.refused(pod, podConfig, usersParts("", mappedJSON("/kernel", "/proc/sys", "")), "show /proc/sys under other owners: the file system (proc)")
}

// Who is privileged in such a pod has all rights in its user namespace.
func TestUserNamespacePrivileged(t *testing.T) {
	c := newClient(t, "podsandbox", "overlayfs")
	pod, podConfig := c.pod("users", `"security_context":{"privileged":true,`+usersJSON+`}`)
	id := c.containerWith(pod, podConfig, "root", usersParts(`"privileged":true`), "exec sleep 1000")
	const look = "mount -t tmpfs none /tmp && echo mounted; hostname other && hostname; mknod /sda b 8 0 2>&1 | grep -o 'not permitted'; echo 1 2>&1 >/proc/sys/vm/drop_caches | grep -o 'ermission denied'; grep CapEff /proc/self/status | cut -f2"
	if out := c.in(id, look); !strings.HasPrefix(out, "mounted\nother\nnot permitted\nermission denied\n000001ff") {
		t.Errorf("it finds %s", out)
	}
}

// What the guest mounts by itself it also maps.
func TestUserNamespaceDirect(t *testing.T) {
	c := newClient(t, "podsandbox", "overlayfs")
	k := newKubelet(t, c)
	image, dir := filepath.Join(c.dir, "image"), k.volume("users", "csi", "pv")
	k.check(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	k.dougong("volume", "add", "--fs-group", "2000", dir, image)
	t.Cleanup(func() { k.dougong("volume", "remove", dir) })
	pod, podConfig := c.usersPod("users")
	root := c.containerWith(pod, podConfig, "root", usersParts("", mappedJSON("/data", dir, "")), "echo kept >/data/file; exec sleep 1000")
	user := c.containerWith(pod, podConfig, "user", usersParts(`"run_as_user":{"value":1000},"supplemental_groups":[2000]`, mappedJSON("/data", dir, "")), "exec sleep 1000")
	c.eventually("the first writes", func() bool { out, _ := c.run("exec", "-s", root, "cat", "/data/file"); return out == "kept" })
	if out := c.in(user, "cat /data/file; echo mine >/data/mine; stat -c '%u:%g' /data /data/file /data/mine; grep -c ' /data ext4 ' /proc/mounts"); out != "kept\n0:2000\n0:2000\n1000:2000\n1" {
		t.Errorf("the second finds %s", out)
	}
	c.ok("rmp", "-f", pod)
	out, err := exec.Command("debugfs", "-R", "stat mine", image).Output()
	if !strings.Contains(string(out), "User:  1000   Group:  2000") || err != nil {
		t.Errorf("on the disk there is %s, %v", out, err)
	}
}

// containerd takes a runtime's options for runc's when there is a user namespace:
// pods then need a runtime without, whose configuration is named otherwise.
func TestRuntimeWithOptions(t *testing.T) {
	c := newClient(t, "podsandbox", "overlayfs")
	product, err := os.ReadFile(filepath.Join(c.dir, "dougong.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c.file("small.toml", strings.Replace(string(product), "[vm]\n", "[vm]\nmemory_mib = 300\n", 1))
	for _, tt := range []struct{ runtime, pod, parts, want string }{
		{"options", "", `"linux":{}`, "4294967295"},
		{"options", `"security_context":{` + usersJSON + `}`, usersParts(""), "failed to get runtime v2 options"},
		{"small", `"security_context":{` + usersJSON + `}`, usersParts(""), "65536"},
	} {
		config := c.file("pod.json", fmt.Sprintf(`{"metadata":{"name":"p","namespace":"default","uid":"p","attempt":1},"log_directory":%q,"linux":{%s}}`, c.logDir, tt.pod))
		pod := c.ok("runp", "--runtime", tt.runtime, config)
		id, err := c.tryContainer(pod, config, "c", tt.parts, "exec sleep 1000")
		if err == nil {
			_, err = c.run("start", id)
		}
		said := fmt.Sprint(err)
		if err == nil {
			said = c.in(id, "tr -s ' ' '\\n' </proc/self/uid_map; awk '/MemTotal/ { print ($2 < 320000) }' /proc/meminfo")
		}
		if small := strings.HasSuffix(said, "\n1"); !strings.Contains(said, tt.want) || small != (tt.runtime == "small") {
			t.Errorf("with runtime %s and %q: %s", tt.runtime, tt.pod, said)
		}
		c.ok("rmp", "-f", pod)
	}
}
