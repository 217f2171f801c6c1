package critest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Volumes are as the kubelet hands them to a runtime: directories and mounts
// of the host at its paths.
func TestVolumes(t *testing.T) {
	c := newClient(t, "podsandbox", "overlayfs")
	k := newKubelet(t, c)
	tool := k.tool(c)
	for name, test := range map[string]func(t *testing.T, c *client, k *kubelet, tool string){
		"published":   testPublished,
		"large":       testLarge,
		"host":        testHostDirectory,
		"memory":      testMemory,
		"hugepages":   testHugePages,
		"sockets":     testSockets,
		"sub paths":   testSubPaths,
		"fsGroup":     testFSGroup,
		"read-only":   testReadOnly,
		"propagation": testPropagation,
		"block":       testBlock,
		"direct":      testDirect,
	} {
		t.Run(name, func(t *testing.T) {
			c, k := *c, *k
			c.t, k.t = t, t
			test(t, &c, &k, tool)
		})
	}
}

// ConfigMaps, Secrets and what is projected from them are changed by the host,
// and who watches them in a container is told at once.
func testPublished(t *testing.T, c *client, k *kubelet, tool string) {
	config := k.volume("published", "configmap", "config")
	secret := k.volume("published", "secret", "secret")
	k.mount("tmpfs", secret, "size=16m")
	token := k.volume("published", "projected", "token")
	k.publish(config, 1, numbered(40, "small", map[string]string{"key": "one", "large": strings.Repeat("x", 700<<10)}))
	k.publish(secret, 1, map[string]string{"password": "old"})
	k.publish(token, 1, map[string]string{"token": "t1", "ca.crt": "ca"})
	mounts := `"mounts":[` + strings.Join([]string{
		tool, mountJSON("/config", config, `"readonly":true`), mountJSON("/secret", secret, `"readonly":true`), mountJSON("/token", token, `"readonly":true`),
	}, ",") + `],"linux":{"security_context":{"run_as_user":{"value":1000},"supplemental_groups":[4242]}}`
	pod, podConfig := c.pod("published", "")
	watcher := c.containerWith(pod, podConfig, "watcher", mounts, "exec /tool watch /config /config/..data/key =/config/key")
	other := c.containerWith(pod, podConfig, "other", mounts, "exec /tool watch /secret /token")
	for _, id := range []string{watcher, other} {
		c.eventually("the container watches", func() bool { return strings.Contains(c.ok("logs", id), "watching") })
	}
	const look = "cat /config/key /secret/password /token/token; ls -A /config | wc -l; wc -c </config/large; stat -c '%a %u %g' /config /config/..data/key; echo no 2>&1 >/config/new; stat -f -c %T /config /secret"
	if out := c.in(other, look); !strings.HasPrefix(out, "oneoldt1"+"44\n716800\n777 0 0\n640 0 4242\n") || !strings.Contains(out, "Read-only file system") || strings.Contains(out, "fuse") {
		t.Errorf("before the change there is %s", out)
	}
	k.publish(config, 2, numbered(20, "other", map[string]string{"key": "two", "new": "entry"}))
	k.publish(secret, 2, map[string]string{"password": "new"})
	k.publish(token, 2, map[string]string{"token": "t2", "ca.crt": "ca"})
	// The content is there when the event is: the program reads it once.
	for id, events := range map[string][]string{
		watcher: {"/config moved_to ..data\nreads \"two\" <nil>", "/config create new", "/config delete file-39", "/config/..data/key delete_self"},
		other:   {"/secret moved_to ..data", "/token moved_to ..data"},
	} {
		c.eventually(fmt.Sprintf("events %q", events), func() bool {
			log := strings.ReplaceAll(c.ok("logs", id), "moved_to new", "create new")
			for _, e := range events {
				if !strings.Contains(log, e) {
					return false
				}
			}
			return true
		})
	}
	if out := c.in(other, "cat /config/key /config/new /secret/password /token/token; ls -A /config | wc -l; cat /config/file-39 2>/dev/null || true"); out != "twoentrynewt224" {
		t.Errorf("after the change there is %s", out)
	}
	// A container that comes later, or again, finds what is there now.
	c.ok("stop", "-t", "0", watcher)
	c.ok("rm", watcher)
	k.publish(config, 3, map[string]string{"key": "three"})
	again := c.containerWith(pod, podConfig, "again", mounts, "cat /config/key; echo; exec sleep 1000")
	c.eventually("the container reads", func() bool { return c.ok("logs", again) == "three" })
	k.measure(t, c, config, other, tool, pod, podConfig)
}

// measure tells how long after the host's change a container has seen it.
func (k *kubelet) measure(t *testing.T, c *client, config, other, tool, pod, podConfig string) {
	t.Helper()
	mounts := fmt.Sprintf(`"mounts":[%s,%s],"linux":{}`, tool, mountJSON("/config", config, `"readonly":true`))
	id := c.containerWith(pod, podConfig, "timer", mounts, "exec /tool watch /config")
	log := filepath.Join(c.logDir, "timer.log")
	has := func(what string) func() bool {
		return func() bool {
			data, _ := os.ReadFile(log)
			return bytes.Contains(data, []byte(what))
		}
	}
	c.eventually("the container watches", has("watching"))
	begin := time.Now()
	k.publish(config, 4, map[string]string{"key": "four"})
	for !has("moved_to ..data")() {
		if time.Since(begin) > patience {
			t.Fatal("no event")
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("an event arrives %v after the change on the host", time.Since(begin))
	_ = id
}

// What is too large for a copy is shared, and changes all the same.
func testLarge(t *testing.T, c *client, k *kubelet, tool string) {
	dir := k.volume("large", "projected", "all")
	k.publish(dir, 1, map[string]string{"key": "one", "large": strings.Repeat("x", 9<<20)})
	pod, podConfig := c.pod("large", "")
	id := c.containerWith(pod, podConfig, "large", `"mounts":[`+mountJSON("/all", dir, `"readonly":true`)+`],"linux":{}`, "exec sleep 1000")
	if out := c.in(id, "cat /all/key; wc -c </all/large; grep ' /all ' /proc/mounts"); !strings.HasPrefix(out, "one9437184\n") || !strings.Contains(out, " virtiofs ") {
		t.Errorf("it has %s", out)
	}
	k.publish(dir, 2, map[string]string{"key": "two", "large": strings.Repeat("x", 9<<20)})
	c.eventually("the change", func() bool { return c.in(id, "cat /all/key") == "two" })
}

// Any directory is followed where that is asked for.
func testHostDirectory(t *testing.T, c *client, k *kubelet, tool string) {
	dir := filepath.Join(c.dir, "app")
	k.check(os.MkdirAll(filepath.Join(dir, "sub"), 0o755), os.WriteFile(filepath.Join(dir, "sub/file"), []byte("one"), 0o644))
	pod, podConfig := c.pod("host", "")
	const annotation = `"annotations":{"dougong.dev/follow":"/app"},`
	id := c.containerWith(pod, podConfig, "host", annotation+`"mounts":[`+tool+","+mountJSON("/app", dir, `"readonly":true`)+`],"linux":{}`, "exec /tool watch /app /app/sub /app/sub/file =/app/sub/file")
	has := func(what string) {
		t.Helper()
		c.eventually(what, func() bool { return strings.Contains(c.ok("logs", id), what) })
	}
	has("watching")
	k.check(os.WriteFile(filepath.Join(dir, "sub/file"), []byte("written"), 0o644))
	has("/app/sub/file close_write \nreads \"written\"")
	k.check(os.WriteFile(filepath.Join(dir, "sub/next"), []byte("replaced"), 0o644), os.Rename(filepath.Join(dir, "sub/next"), filepath.Join(dir, "sub/file")))
	has("/app/sub moved_to file\nreads \"replaced\"")
	k.check(os.Mkdir(filepath.Join(dir, "new"), 0o755))
	has("/app create new")
	k.check(os.Remove(filepath.Join(dir, "sub/file")))
	has("/app/sub delete file")
	c.refused(pod, podConfig, annotation+`"mounts":[`+mountJSON("/app", dir, "")+`],"linux":{}`, "must be read-only")
}

// An empty directory in memory is the guest's, one for the pod.
func testMemory(t *testing.T, c *client, k *kubelet, _ string) {
	dir := k.volume("memory", "empty-dir", "cache")
	k.mount("tmpfs", dir, "size=8m")
	k.check(os.Chown(dir, 0, 1234), unix.Chmod(dir, 0o2777))
	k.check(os.Mkdir(filepath.Join(dir, "part"), 0o750), os.Chown(filepath.Join(dir, "part"), 77, 78))
	part := k.subPath("memory", "cache", "second", filepath.Join(dir, "part"))
	parts := func(more string) string {
		return `"mounts":[` + mountJSON("/cache", dir, "") + more + `],"linux":{"security_context":{"run_as_user":{"value":1000}}}`
	}
	pod, podConfig := c.pod("memory", "")
	first := c.containerWith(pod, podConfig, "first", parts(""), "echo kept >/cache/file; exec sleep 1000")
	second := c.containerWith(pod, podConfig, "second", strings.Replace(parts(","+mountJSON("/part", part, "")), "1000", "77", 1), "exec sleep 1000")
	c.eventually("the first writes", func() bool {
		out, err := c.run("exec", "-s", second, "cat", "/cache/file")
		return err == nil && out == "kept"
	})
	const look = "df -k /cache | awk 'NR>1 {print $2}'; stat -c '%a %u %g' /cache /part; stat -c %g /cache/file; grep ' /cache ' /proc/mounts | cut -d' ' -f3; echo part >/part/file; cat /cache/part/file"
	if out := c.in(second, look); out != "8192\n2777 0 1234\n2750 77 78\n1234\ntmpfs\npart" {
		t.Errorf("it is %s", out)
	}
	if out := c.in(first, "dd if=/dev/zero of=/cache/big bs=1M count=20 2>&1 | grep -c 'No space'; rm /cache/big"); out != "1" {
		t.Errorf("more than its size: %s", out)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "part")); len(entries) > 0 || err != nil {
		t.Errorf("the host has %v, %v", entries, err)
	}
	c.ok("stop", "-t", "0", first)
	c.ok("rm", first)
	first = c.containerWith(pod, podConfig, "first", parts(""), "exec sleep 1000")
	if a, b := c.in(first, "cat /cache/file"), c.in(second, "cat /cache/part/file"); a != "kept" || b != "part" {
		t.Errorf("after a restart there is %s, %s", a, b)
	}
	// Another pod has another one, even at the same path.
	pod, podConfig = c.pod("next", "")
	next := c.containerWith(pod, podConfig, "next", parts(""), "exec sleep 1000")
	if out := c.in(next, "ls /cache"); strings.Contains(out, "file") {
		t.Errorf("another pod finds %s", out)
	}
}

// Sockets, FIFOs and locks connect the containers of a pod, also those that may
// only read the volume, and those of which one came back.
func testSockets(t *testing.T, c *client, k *kubelet, tool string) {
	dir := k.volume("sockets", "empty-dir", "run")
	other := k.volume("sockets", "csi", "pv")
	pod, podConfig := c.pod("sockets", "")
	parts := func(more string) string {
		return `"mounts":[` + tool + "," + mountJSON("/run/pod", dir, more) + "," + mountJSON("/pv", other, "") + `],"linux":{}`
	}
	reader := c.containerWith(pod, podConfig, "reader", parts(`"readonly":true`), "exec sleep 1000")
	server := c.containerWith(pod, podConfig, "server", parts(""), "/tool serve /pv/socket & exec /tool serve /run/pod/socket")
	caller := c.containerWith(pod, podConfig, "caller", parts(""), "exec sleep 1000")
	c.eventually("the server serves", func() bool { return strings.Count(c.ok("logs", server), "serving") == 2 })
	for _, id := range []string{reader, caller} {
		for _, path := range []string{"/run/pod/socket", "/pv/socket"} {
			if out, err := c.run("exec", "-s", id, "/tool", "call", path); out != "answer hello" {
				t.Errorf("a call of %s gives %s, %v", path, out, err)
			}
		}
	}
	c.ok("stop", "-t", "0", caller)
	c.ok("rm", caller)
	caller = c.containerWith(pod, podConfig, "caller", parts(""), "exec sleep 1000")
	if out, err := c.run("exec", "-s", caller, "/tool", "call", "/run/pod/socket"); out != "answer hello" {
		t.Errorf("a call after a restart gives %s, %v", out, err)
	}
	c.in(caller, "mkfifo /run/pod/fifo; (echo through >/run/pod/fifo) >/dev/null 2>&1 &")
	if out := c.in(reader, "timeout 20 cat /run/pod/fifo"); out != "through" {
		t.Errorf("the FIFO gives %s", out)
	}
	if out, err := c.run("exec", "-s", reader, "touch", "/run/pod/no"); err == nil || !strings.Contains(err.Error(), "Read-only") {
		t.Errorf("who may only read writes: %s, %v", out, err)
	}
}

// A part of a volume is a bind of the kubelet's; it does not follow.
func testSubPaths(t *testing.T, c *client, k *kubelet, _ string) {
	dir := k.volume("parts", "empty-dir", "data")
	k.check(os.MkdirAll(filepath.Join(dir, "deep/er"), 0o755), os.WriteFile(filepath.Join(dir, "deep/er/file"), []byte("deep"), 0o644))
	config := k.volume("parts", "configmap", "config")
	k.publish(config, 1, map[string]string{"key": "one"})
	key, err := filepath.EvalSymlinks(filepath.Join(config, "key"))
	k.check(err)
	pod, podConfig := c.pod("parts", "")
	mounts := `"mounts":[` + mountJSON("/er", k.subPath("parts", "data", "c", filepath.Join(dir, "deep/er")), "") + "," +
		mountJSON("/etc/key", k.subPath("parts", "config", "c", key), `"readonly":true`) + `],"linux":{}`
	id := c.containerWith(pod, podConfig, "c", mounts, "exec sleep 1000")
	if out := c.in(id, "cat /er/file /etc/key; echo w >/er/new; ls /er"); out != "deepone"+"file\nnew" {
		t.Errorf("it has %s", out)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "deep/er/new")); string(data) != "w\n" {
		t.Errorf("the host has %q, %v", data, err)
	}
	k.publish(config, 2, map[string]string{"key": "two"})
	if out := c.in(id, "cat /etc/key"); out != "one" {
		t.Errorf("a part follows: %s", out)
	}
}

// The kubelet gives a volume to a group, and what is made there belongs to it.
func testFSGroup(t *testing.T, c *client, k *kubelet, _ string) {
	dir := k.volume("group", "empty-dir", "data")
	k.check(os.Chown(dir, 0, 2000), unix.Chmod(dir, 0o2775))
	pod, podConfig := c.pod("group", "")
	parts := func(user int) string {
		return `"mounts":[` + mountJSON("/data", dir, "") + fmt.Sprintf(`],"linux":{"security_context":{"run_as_user":{"value":%d},"supplemental_groups":[2000]}}`, user)
	}
	one := c.containerWith(pod, podConfig, "one", parts(1000), "umask 002; mkdir /data/dir; echo one >/data/dir/file; exec sleep 1000")
	two := c.containerWith(pod, podConfig, "two", parts(1001), "exec sleep 1000")
	c.eventually("the first writes", func() bool { out, _ := c.run("exec", "-s", one, "cat", "/data/dir/file"); return out == "one" })
	if out := c.in(two, "echo two >>/data/dir/file && cat /data/dir/file && stat -c '%a %u %g' /data /data/dir /data/dir/file"); out != "one\ntwo\n2775 0 2000\n2775 1000 2000\n664 1000 2000" {
		t.Errorf("the second finds %s", out)
	}
	var st unix.Stat_t
	k.check(unix.Stat(filepath.Join(dir, "dir/file"), &st))
	if st.Uid != 1000 || st.Gid != 2000 {
		t.Errorf("on the host it belongs to %d:%d", st.Uid, st.Gid)
	}
}

// Read-only is the host's word, whatever a container may do in its machine.
func testReadOnly(t *testing.T, c *client, k *kubelet, _ string) {
	dir := filepath.Join(c.dir, "host")
	k.check(os.MkdirAll(filepath.Join(dir, "below"), 0o777))
	k.mount("tmpfs", filepath.Join(dir, "below"), "size=1m")
	pod, podConfig := c.pod("ro", `"security_context":{"privileged":true}`)
	mounts := `"mounts":[` + mountJSON("/ro", dir, `"readonly":true`) + "," + mountJSON("/rro", dir, `"readonly":true,"recursive_read_only":true`) +
		`],"linux":{"security_context":{"privileged":true}}`
	id := c.containerWith(pod, podConfig, "ro", mounts, "exec sleep 1000")
	out := c.in(id, `for m in /ro /rro /rro/below; do mount -o remount,rw,bind $m; grep " $m " /proc/mounts; touch $m/no 2>&1; done; touch /ro/below/yes`)
	if !strings.Contains(out, " rw") {
		t.Errorf("the container could not mount it anew, so nothing is tested: %s", out)
	}
	for _, name := range []string{"no", "below/no"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("the host has %s: %s", name, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "below/yes")); err != nil {
		t.Errorf("what is mounted below is read-only too: %v", err)
	}
}

// What the host mounts below a volume shows in the container.
func testPropagation(t *testing.T, c *client, k *kubelet, _ string) {
	dir := filepath.Join(c.dir, "propagates")
	k.check(os.MkdirAll(filepath.Join(dir, "later"), 0o755))
	pod, podConfig := c.pod("propagates", "")
	id := c.containerWith(pod, podConfig, "c", `"mounts":[`+mountJSON("/host", dir, `"propagation":1`)+`],"linux":{}`, "exec sleep 1000")
	k.mount("tmpfs", filepath.Join(dir, "later"), "size=1m")
	k.check(os.WriteFile(filepath.Join(dir, "later/file"), []byte("mounted"), 0o644))
	c.eventually("the mount shows", func() bool {
		out, err := c.run("exec", "-s", id, "cat", "/host/later/file")
		return err == nil && out == "mounted"
	})
	c.refused(pod, podConfig, `"mounts":[`+mountJSON("/host", dir, `"propagation":2`)+`],"linux":{}`, "mounts do not propagate out of a VM")
}

// A block volume is a disk of the machine, which comes and goes with the
// container.
func testBlock(t *testing.T, c *client, k *kubelet, _ string) {
	node, file := k.loop(40 << 20)
	pod, podConfig := c.pod("block", "")
	device := func(permissions string) string {
		return fmt.Sprintf(`"devices":[{"container_path":"/dev/volume","host_path":%q,"permissions":%q}],"linux":{}`, node, permissions)
	}
	id := c.containerWith(pod, podConfig, "block", device("rwm"), "exec sleep 1000")
	if out := c.in(id, "blockdev --getsize64 /dev/volume; echo from the pod | dd of=/dev/volume conv=sync,fsync 2>/dev/null; dd if=/dev/volume bs=12 count=1 2>/dev/null"); out != "41943040\nfrom the pod" {
		t.Errorf("the container has %s", out)
	}
	if data, err := os.ReadFile(file); !bytes.HasPrefix(data, []byte("from the pod\n")) {
		t.Errorf("the host reads %q, %v", data[:16], err)
	}
	c.ok("stop", "-t", "0", id)
	c.ok("rm", id)
	id = c.containerWith(pod, podConfig, "reader", device("r"), "exec sleep 1000")
	if out := c.in(id, "dd if=/dev/volume bs=12 count=1 2>/dev/null; echo; (echo no >/dev/volume) 2>/dev/null || echo read-only"); out != "from the pod\nread-only" {
		t.Errorf("who may only read has %s", out)
	}
}

// A file system in a file of the host is mounted in the guest alone.
func testDirect(t *testing.T, c *client, k *kubelet, _ string) {
	image := filepath.Join(k.t.TempDir(), "image")
	k.check(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := k.volume("direct", "csi", "pv")
	k.dougong("volume", "add", "--fs-group", "2000", "-o", "noatime", dir, image)
	parts := `"mounts":[` + mountJSON("/data", dir, "") + `],"linux":{"security_context":{"run_as_user":{"value":1000},"supplemental_groups":[2000]}}`
	pod, podConfig := c.pod("direct", "")
	one := c.containerWith(pod, podConfig, "one", parts, "echo kept >/data/file; exec sleep 1000")
	two := c.containerWith(pod, podConfig, "two", parts, "exec sleep 1000")
	c.eventually("the first writes", func() bool { out, _ := c.run("exec", "-s", one, "cat", "/data/file"); return out == "kept" })
	if out := c.in(two, "cat /data/file; grep ' /data ' /proc/mounts; stat -c '%a %g' /data"); !strings.HasPrefix(out, "kept\n/dev/vd") || !strings.Contains(out, " ext4 ") || !strings.Contains(out, "noatime") || !strings.HasSuffix(out, "\n2775 2000") {
		t.Errorf("the second finds %s", out)
	}
	var stats struct{ Capacity, Used, Available, Inodes uint64 }
	k.check(json.Unmarshal([]byte(k.dougong("volume", "stat", dir)), &stats))
	if stats.Capacity < 32<<20 || stats.Capacity > 64<<20 || stats.Used == 0 || stats.Available == 0 || stats.Inodes == 0 {
		t.Errorf("figures are %+v", stats)
	}
	before := stats.Capacity
	k.check(os.Truncate(image, 128<<20))
	k.check(json.Unmarshal([]byte(k.dougong("volume", "resize", dir)), &stats))
	if stats.Capacity < before+48<<20 {
		t.Errorf("grown by 64 MiB, of %d bytes it has become %d", before, stats.Capacity)
	}
	if out := c.in(two, "dd if=/dev/zero of=/data/big bs=1M count=80 2>/dev/null && stat -c %s /data/big && rm /data/big && sync"); out != "83886080" {
		t.Errorf("in the larger one there is room for %s", out)
	}
	other, otherConfig := c.pod("other", "")
	c.refused(other, otherConfig, parts, "is in use by another sandbox")
	c.ok("stop", "-t", "0", one)
	c.ok("rm", one)
	if out := c.in(two, "cat /data/file"); out != "kept" {
		t.Errorf("when the first is gone there is %s", out)
	}
	c.ok("rmp", "-f", pod)
	if out, err := exec.Command("debugfs", "-R", "cat file", image).Output(); string(out) != "kept\n" || err != nil {
		t.Errorf("in the file there is %q, %v", out, err)
	}
	if out, err := exec.Command("e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("the file system is damaged: %v: %s", err, out)
	}
	k.dougong("volume", "remove", dir)
	k.dougong("volume", "add", "--read-only", dir, image)
	pod, podConfig = c.pod("direct", "")
	for p, config := range map[string]string{pod: podConfig, other: otherConfig} {
		id := c.containerWith(p, config, "reader", parts, "exec sleep 1000")
		if out := c.in(id, "cat /data/file; touch /data/no 2>&1 || true"); !strings.HasPrefix(out, "kept\n") || !strings.Contains(out, "Read-only") {
			t.Errorf("a reader finds %s", out)
		}
	}
	k.dougong("volume", "remove", dir)
	if out := k.dougong("volume", "list", "--format", "json"); strings.Contains(out, dir) {
		t.Errorf("what was removed is listed: %s", out)
	}
}

// dougong runs the command.
func (k *kubelet) dougong(args ...string) string {
	k.t.Helper()
	out, err := exec.Command(filepath.Join(os.Getenv("DOUGONG_BIN"), "dougong"), args...).CombinedOutput()
	if err != nil {
		k.t.Fatalf("dougong %q: %v: %s", args, err, out)
	}
	return string(out)
}

// loop makes a block device of a file, for the time of the test.
func (k *kubelet) loop(size int64) (node, file string) {
	k.t.Helper()
	file = filepath.Join(k.t.TempDir(), "disk")
	k.check(os.WriteFile(file, nil, 0o600), os.Truncate(file, size))
	out, err := exec.Command("losetup", "-f", "--show", file).CombinedOutput()
	if err != nil {
		k.t.Fatalf("losetup: %v: %s", err, out)
	}
	node = strings.TrimSpace(string(out))
	k.t.Cleanup(func() {
		if err := exec.Command("losetup", "-d", node).Run(); err != nil {
			k.t.Error(err)
		}
	})
	return node, file
}

// Huge pages are the guest's, as many as the limits of the containers.
func testHugePages(t *testing.T, c *client, k *kubelet, tool string) {
	dir := k.volume("huge", "empty-dir", "pages")
	k.mount("hugetlbfs", dir, "pagesize=2M")
	pod, podConfig := c.pod("huge", "")
	parts := func(size string, limit int) string {
		return fmt.Sprintf(`"mounts":[%s,%s],"linux":{"resources":{"memory_limit_in_bytes":134217728,"hugepage_limits":[{"page_size":%q,"limit":%d}]}}`, tool, mountJSON("/pages", dir, ""), size, limit)
	}
	id := c.containerWith(pod, podConfig, "huge", parts("2MB", 8<<20), "exec sleep 1000")
	const look = "grep ' /pages ' /proc/mounts | cut -d' ' -f3; /tool huge /pages/a 8388608; cat /sys/fs/cgroup/hugetlb.2MB.max; awk '/HugePages_Total/ { print $2 }' /proc/meminfo"
	if out := c.in(id, look); out != "hugetlbfs\ntouched 8388608\n8388608\n4" {
		t.Errorf("the container finds %s", out)
	}
	second := c.containerWith(pod, podConfig, "second", parts("2MB", 64<<20), "exec sleep 1000")
	if out := c.in(second, "ls /pages; awk '/HugePages_Total/ { print $2 }' /proc/meminfo; /tool huge /pages/b 67108864; rm /pages/a /pages/b"); out != "a\n36\ntouched 67108864" {
		t.Errorf("the second container finds %s", out)
	}
	c.ok("stop", "-t", "0", second)
	c.ok("rm", second)
	c.eventually("pages are given back", func() bool { return c.in(id, "awk '/HugePages_Total/ { print $2 }' /proc/meminfo") == "4" })
	c.refused(pod, podConfig, parts("2MB", 3<<20), "pages of 2MB and 1GB")
	c.refused(pod, podConfig, parts("1GB", 1<<40), "memory are needed")
}

// refused starts a container that cannot be.
func (c *client) refused(pod, podConfig, parts, reason string) {
	c.t.Helper()
	id, err := c.tryContainer(pod, podConfig, "refused", parts, "true")
	if err == nil {
		_, err = c.run("start", id)
		c.ok("rm", "-f", id)
	}
	if err == nil || !strings.Contains(err.Error(), reason) {
		c.t.Errorf("error is %v, want %q", err, reason)
	}
}
