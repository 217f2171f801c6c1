package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mappings are those of as many ids from a first one on.
func mappings(first int) []object {
	return []object{{"containerID": 0, "hostID": first, "size": 65536}}
}

// inUsers gives a spec a user namespace.
func inUsers(s object) {
	linux := s["linux"].(object)
	linux["namespaces"] = append(linux["namespaces"].([]object), object{"type": "user"})
	linux["uidMappings"], linux["gidMappings"] = mappings(100000), mappings(200000)
}

// Mounts show owners as they are mapped, by mappings of their own or by those of the
// container, and what is made there has such on the host.
func TestMappedMounts(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		dir, sub := t.TempDir(), "sub"
		for _, err := range []error{
			os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Chown(filepath.Join(dir, "file"), 5, 6), os.Mkdir(filepath.Join(dir, sub), 0o755),
			unix.Mount("none", filepath.Join(dir, sub), "tmpfs", 0, "mode=755"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, sub), unix.MNT_DETACH) })
		root := rootfs(t)
		// As whoever makes root file systems for user namespaces does.
		if err := os.Chown(root, 100000, 200000); err != nil {
			t.Fatal(err)
		}
		s := spec(root, "busybox stat -c '%n %u:%g' /own /own/file /other/file /plain/file /own/sub /below/sub; touch /own/new; busybox chown 7:8 /own/new; touch /own/sub/no 2>/dev/null || echo no")
		inUsers(s)
		s["process"].(object)["capabilities"] = object{"bounding": []string{"CAP_CHOWN"}, "permitted": []string{"CAP_CHOWN"}, "effective": []string{"CAP_CHOWN"}}
		bind := func(to string, more ...string) object {
			return object{"destination": to, "type": "bind", "source": dir, "options": append([]string{"rbind"}, more...)}
		}
		other := bind("/other")
		other["uidMappings"], other["gidMappings"] = mappings(100010), mappings(200010)
		s["mounts"] = append(s["mounts"].([]object), bind("/own", "idmap"), other, bind("/plain"), bind("/below", "ridmap"))
		r := d.runSpec(t, "mapped", s)
		if want := "/own 0:0\n/own/file 5:6\n/other/file 15:16\n/plain/file 65534:65534\n/own/sub 65534:65534\n/below/sub 0:0\nno\n"; r.out != want {
			t.Errorf("got %+v", r)
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "new"), &st); err != nil || st.Uid != 7 || st.Gid != 8 {
			t.Errorf("on the host what is made belongs to %d:%d, %v", st.Uid, st.Gid, err)
		}
		s["mounts"] = append(s["mounts"].([]object), object{"destination": "/kernel", "type": "bind", "source": "/proc/sys", "options": []string{"bind", "idmap"}})
		if r := d.runSpec(t, "unmapped", s); !strings.Contains(r.err, "show /proc/sys under other owners: the file system (proc) cannot do that") {
			t.Errorf("a file system without mappings gives %+v", r)
		}
	})
}

// A snapshotter that maps owners leaves that to whoever mounts, and one that does
// not has changed them.
func TestMappedSnapshots(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		ids := []string{"--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"}
		ways := [][]string{nil, {"--remap-labels"}, {"--remap-labels", "--read-only"}}
		if !d.isNew() {
			// Its snapshotter does not know such labels.
			ways = ways[:1]
		}
		for i, more := range ways {
			id := fmt.Sprint("snapshot-", i)
			t.Cleanup(func() { d.remove(id) })
			args := append(append([]string{"run", "--runtime", runtimeName, "--rm"}, ids...), more...)
			r := d.ctr(t, append(args, imageName, id, "sh", "-c", "cat /proc/self/uid_map | tr -s ' '; stat -c '%u:%g' / /bin/busybox; echo new >/new && stat -c '%u:%g' /new")...)
			want := " 0 100000 65536\n0:0\n0:0\n0:0\n"
			if len(more) == 2 {
				want = " 0 100000 65536\n0:0\n0:0\n"
			}
			if r.out != want {
				t.Errorf("with %q: %+v", more, r)
			}
		}
	})
}
