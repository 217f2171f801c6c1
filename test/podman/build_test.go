package podman

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dougong.dev/dougong/test/enclave"
)

const containerfile = `FROM scratch
COPY --from=localhost/busybox / /
ARG word=none
RUN cat /proc/sys/kernel/random/boot_id >/first && echo "$word" >/word
WORKDIR /work
RUN cat /proc/sys/kernel/random/boot_id >/second && test "$(pwd)" = /work && mkdir sub && chown 12:13 sub && chmod u+s /word
USER 12
RUN touch sub/made && id -u >sub/user
CMD ["sh", "-c", "cat /first /second /word sub/user; stat -c '%u:%g %a' sub /word"]
`

// build builds an image by the runtime. Podman does not hand on the one it is told
// for containers.
func build(args ...string) []string {
	return append([]string{"build", "--isolation", "oci", "--runtime", filepath.Join(suite.Bin, "dougong"), "--pull=never"}, args...)
}

// TestBuild builds an image, each step in a virtual machine of its own.
func TestBuild(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Containerfile"), []byte(containerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	own.Must(t, build("--build-arg", "word=given", "--tag", "localhost/built", dir)...)
	t.Cleanup(func() {
		if out, err := own.Run("rmi", "localhost/built"); err != nil {
			t.Error(out, err)
		}
	})
	ours, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(own.Must(t, append(append([]string{"run", "--rm"}, none...), "localhost/built")...))
	if len(got) != 8 || got[0] == got[1] || got[0] == strings.TrimSpace(string(ours)) || strings.Join(got[2:], " ") != "given 12 12:13 755 0:0 4644" {
		t.Errorf("what was built says %q", got)
	}
}

// TestBuildFails ends a build by a step that fails.
func TestBuildFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Containerfile"), []byte("FROM localhost/busybox\nRUN exit 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own.Fails(t, "exit status 7", build(dir)...)
	if left := enclave.Processes(filepath.Join(suite.Bin, "containerd-shim"), 0); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
