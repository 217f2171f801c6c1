package critest

import (
	"fmt"
	"strings"
	"testing"
)

// What a pod's security context asks for holds inside the guest.
func TestSecurityContext(t *testing.T) {
	c := newClient(t, "podsandbox", "overlayfs")
	plain, plainConfig := c.pod("security", "")
	mighty, mightyConfig := c.pod("mighty", `"security_context":{"privileged":true}`)
	for name, tt := range map[string]struct {
		context, script, want string
	}{
		"user": {
			`"run_as_user":{"value":1001},"run_as_group":{"value":3000},"supplemental_groups":[4000,5000]`,
			"id -u; id -g; id -G", "1001\n3000\n3000 4000 5000",
		},
		"name": {`"run_as_username":"www-data"`, "id -un; id -g", "www-data\n33"},
		"capabilities": {
			`"capabilities":{"add_capabilities":["NET_ADMIN"],"drop_capabilities":["CHOWN"]}`,
			"ip link set lo mtu 1400 && echo set; touch /tmp/x; chown 5 /tmp/x 2>/dev/null || echo no chown", "set\nno chown",
		},
		"no rights":   {`"capabilities":{"drop_capabilities":["ALL"]}`, "grep CapEff /proc/self/status | tr -d ' \\t'", "CapEff:0000000000000000"},
		"read-only":   {`"readonly_rootfs":true`, "touch /x 2>&1 | grep -o 'Read-only file system'; touch /dev/shm/x && echo shm", "Read-only file system\nshm"},
		"no new":      {`"no_new_privs":true`, "grep NoNewPrivs /proc/self/status | tr -d ' \\t'", "NoNewPrivs:1"},
		"seccomp":     {`"seccomp":{"profile_type":0}`, "grep Seccomp: /proc/self/status | tr -d ' \\t'", "Seccomp:2"},
		"no seccomp":  {`"seccomp":{"profile_type":1}`, "grep Seccomp: /proc/self/status | tr -d ' \\t'", "Seccomp:0"},
		"masked":      {`"masked_paths":["/proc/uptime"],"readonly_paths":["/proc/sys"]`, "cat /proc/uptime; echo 1 2>&1 >/proc/sys/vm/swappiness | grep -o 'Read-only file system'; echo end", "Read-only file system\nend"},
		"privileged":  {`"privileged":true`, "mount -t tmpfs tmpfs /mnt 2>/dev/null || { mkdir -p /tmp/m; mount -t tmpfs tmpfs /tmp/m; } && echo mounted; grep CapEff /proc/self/status | grep -c ffffff", "mounted\n1"},
		"a guest's":   {`"privileged":true`, "ls -d /dev/kvm /dev/fuse /dev/net/tun /dev/loop-control /dev/sda 2>/dev/null; ls /dev | grep -E '^vd' ; echo end", "end"},
		"unprivilege": {``, "mount -t tmpfs tmpfs /tmp 2>/dev/null || echo no mount", "no mount"},
	} {
		t.Run(name, func(t *testing.T) {
			own := *c
			own.t = t
			pod, config := plain, plainConfig
			if strings.Contains(tt.context, "privileged") {
				pod, config = mighty, mightyConfig
			}
			id := own.container(pod, config, strings.ReplaceAll(name, " ", "-"), fmt.Sprintf(`"security_context":{%s}`, tt.context), tt.script)
			own.eventually("the container ends", func() bool { return own.state(id) == "CONTAINER_EXITED" })
			if out := own.ok("logs", id); out != tt.want {
				t.Errorf("it says %q, want %q", out, tt.want)
			}
		})
	}
}

// A seccomp profile of the host's disk holds in the guest.
func TestLocalSeccompProfile(t *testing.T) {
	c := newClient(t, "podsandbox", "overlayfs")
	pod, config := c.pod("profile", "")
	profile := c.file("seccomp.json", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`)
	id := c.container(pod, config, "sealed", fmt.Sprintf(`"security_context":{"seccomp":{"profile_type":2,"localhost_ref":%q}}`, profile), "mkdir /x 2>&1 | grep -o 'not permitted'; touch /y && echo touched")
	c.eventually("the container ends", func() bool { return c.state(id) == "CONTAINER_EXITED" })
	if out := c.ok("logs", id); out != "not permitted\ntouched" {
		t.Errorf("it says %q", out)
	}
}

// What the guest's kernel has no policy for is refused with the reason, and the
// pod stays as it was.
func TestRefusedProfile(t *testing.T) {
	c := newClient(t, "podsandbox", "overlayfs")
	pod, config := c.pod("refused", "")
	good := c.container(pod, config, "good", `"security_context":{"apparmor":{"profile_type":1}}`, "sleep 1000")
	spec := c.file("apparmor.json", fmt.Sprintf(`{"metadata":{"name":"apparmor"},"image":{"image":%q},"command":["true"],"linux":{"security_context":{"apparmor":{"profile_type":2,"localhost_ref":"mine"}}}}`, busybox))
	id, err := c.run("create", pod, spec, config)
	if err == nil {
		_, err = c.run("start", id)
	}
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "apparmor") {
		t.Errorf("%q, %v", id, err)
	}
	if state := c.state(good); state != "CONTAINER_RUNNING" {
		t.Errorf("the other container is %s", state)
	}
}
