package vm

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"dougong.dev/dougong/internal/image/imagetest"
)

// randomScript takes random bytes by every way that programs have.
const randomScript = `
/random || exit
echo "urandom=$(dd if=/dev/urandom bs=16 count=1 2> /dev/null | od -An -tx1 | tr -d ' ')"
read uuid < /proc/sys/kernel/random/uuid; echo "kernel-uuid=$uuid"
read boot < /proc/sys/kernel/random/boot_id; echo "boot-id=$boot"
read mac < /sys/class/net/eth0/address; echo "mac=$mac"
echo "hostname=$(hostname)"
echo "openssl=$(OPENSSL_CONF=/dev/null openssl rand -hex 16)" || exit
python3 -I -S -c '
import os, random, secrets, uuid
print("python-uuid4=%s" % uuid.uuid4())
print("python-urandom=%s" % os.urandom(16).hex())
print("python-secrets=%s" % secrets.token_hex(16))
print("python-random=%s" % random.getrandbits(128))
print("python-hash=%s" % hash("the same"))
'
`

// randomFacts is how many lines that is.
const randomFacts = 16

// TestClonesAreRandom starts many clones of one template and wants no two of
// them to have drawn the same, whatever they drew it with. Half of them have a
// copy of the template's memory, for they have a shared directory.
func TestClonesAreRandom(t *testing.T) {
	in := install(t)
	image := in.programs()
	n := 6
	if suite.long {
		n = 100
	}
	in.ownTemplates()
	in.must("template", "create")
	share := in.mkdir("share")
	var mu sync.Mutex
	seen := map[string]int{}
	each(n, func(i int) {
		args := []string{"run", "--rm"}
		if i%2 == 1 {
			args = append(args, "-v", share+":/share")
		}
		r := in.dougong(append(args, image, "sh", "-c", randomScript)...)
		f := facts(r.stdout)
		if r.code != 0 || len(f) != randomFacts {
			t.Errorf("%d facts, want %d: %v", len(f), randomFacts, r)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for name, value := range f {
			if other, twice := seen[name+value]; twice || len(value) < 8 {
				t.Errorf("clones %d and %d have the same %s, or hardly any: %q", other, i, name, value)
			}
			seen[name+value] = i
		}
	})
	if len(in.templates()) != 1 {
		t.Errorf("templates %+v, want one", in.templates())
	}
}

// each calls f for every number below n, some at a time.
func each(n int, f func(i int)) {
	work := make(chan int, n)
	for i := range n {
		work <- i
	}
	close(work)
	var all sync.WaitGroup
	for range parallel {
		all.Go(func() {
			for i := range work {
				f(i)
			}
		})
	}
	all.Wait()
}

// programs makes an image with busybox, a Go program, and the host's openssl
// and python3, and returns its reference.
func (in *installation) programs() string {
	in.t.Helper()
	layer := imagetest.NewLayer()
	layer.HostFile("random", 0o755, in.static("random"))
	files := in.pythonFiles()
	for _, name := range []string{"openssl", "python3"} {
		path, err := filepath.EvalSymlinks(filepath.Join("/usr/bin", name))
		if err != nil {
			in.t.Fatalf("%v; install it with: apt-get install %s", err, name)
		}
		layer.HostFile("usr/bin/"+name, 0o755, path)
		files = append(files, path)
	}
	var libraries []string
	for _, path := range files {
		libraries = append(libraries, in.libraries(path)...)
	}
	files = append(files[:len(files)-2], libraries...)
	slices.Sort(files)
	for _, path := range slices.Compact(files) {
		layer.HostFile(strings.TrimPrefix(path, "/"), 0o755, path)
	}
	dir := in.path("programs")
	img, err := imagetest.Busybox(busyboxPath)
	if err != nil {
		in.t.Fatal(err)
	}
	img.Layers = append(img.Layers, layer)
	if _, err := img.WriteLayout(dir, "latest"); err != nil {
		in.t.Fatal(err)
	}
	return "oci:" + dir
}

// pythonFiles lists the files of the library that the script's modules are in.
func (in *installation) pythonFiles() []string {
	in.t.Helper()
	const list = `import os, random, secrets, sys, uuid; uuid.uuid4()
print(*{getattr(m, "__file__", None) or os.__file__ for m in sys.modules.values()})`
	out, err := exec.Command("/usr/bin/python3", "-I", "-S", "-B", "-c", list).Output()
	if err != nil {
		in.t.Fatalf("ask python3 for its files: %v; install it with: apt-get install python3", err)
	}
	return strings.Fields(string(out))
}

var libraryPath = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// libraries lists the shared libraries of a program, loader included.
func (in *installation) libraries(path string) []string {
	in.t.Helper()
	if strings.HasSuffix(path, ".py") {
		return nil
	}
	out, err := exec.Command("ldd", path).CombinedOutput()
	if err != nil {
		in.t.Fatalf("ldd %s: %v: %s", path, err, out)
	}
	var all []string
	for _, m := range libraryPath.FindAllStringSubmatch(string(out), -1) {
		all = append(all, m[1])
	}
	return all
}

// TestCloneIsTold wants a guest kernel that knows the device for it to have
// reseeded by itself in a clone, and only there.
func TestCloneIsTold(t *testing.T) {
	in := install(t)
	in.must("template", "create")
	const script = `[ -d /sys/bus/acpi/drivers/vmgenid ] && echo driver; dmesg | grep -c 'reseeded due to virtual machine fork'`
	for flag, want := range map[string]string{"": "driver\n1\n", "--no-template": "driver\n0\n"} {
		args := []string{"run", "--rm", "--privileged", busybox(), "sh", "-c", script}
		if flag == "--no-template" {
			args = slices.Insert(args, 1, flag)
		}
		r := in.dougong(args...)
		if !strings.HasPrefix(r.stdout, "driver") {
			// Debian's cloud kernel; the repair by the agent is all there is.
			t.Logf("the guest's kernel has no driver for vmgenid: %q", r.stdout)
			want = "0\n"
		}
		if r.stdout != want {
			t.Errorf("%s: want %q: %v", flag, want, r)
		}
	}
}

// TestNoSecretOfOneInAnother has a clone hold a secret in its memory, in its
// environment and in a file, and looks for it in all memory of another clone
// that started later, and in the template.
func TestNoSecretOfOneInAnother(t *testing.T) {
	for name, settings := range map[string][]string{"shared pages": nil, "copied pages": {"template.share_memory=false"}} {
		t.Run(name, func(t *testing.T) {
			in := install(t)
			dir := in.ownTemplates(settings...)
			in.must("template", "create")
			secret := "secret-of-one-" + rand.Text()
			in.must("run", "-d", "--name", "one", "-e", "SECRET="+secret, busybox(), "sh", "-c", `echo "$SECRET" > /file; while sleep 1; do :; done`)
			one := in.one("qemu")
			in.must("run", "-d", "--name", "two", busybox(), "sleep", "1000")
			two := slices.DeleteFunc(in.find("qemu"), func(p process) bool { return p.pid == one.pid })[0]
			// It shows too that the search finds what is there.
			if n := inMemory(t, one.pid, secret); n == 0 {
				t.Error("the secret is not found where it is")
			}
			if n := inMemory(t, two.pid, secret); n != 0 {
				t.Errorf("the secret of the first clone is %d times in the second", n)
			}
			in.must("rm", "-f", "one", "two")
			err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				data, err := os.ReadFile(path)
				if bytes.Contains(data, []byte(secret)) {
					t.Errorf("the secret is in %s", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// inMemory counts how often a text is in a process's memory. It looks at pages
// that are there: to read another one of shared memory would make it, and there
// is room for far more of them than a sandbox may have.
func inMemory(t *testing.T, pid int, text string) int {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	found := 0
	for line := range strings.Lines(string(maps)) {
		var begin, end int64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &rights); err != nil || rights[0] != 'r' {
			continue
		}
		for _, run := range presentPages(t, pid, begin, end) {
			// Some of a process's own mappings cannot be read by anybody.
			data, _ := io.ReadAll(io.NewSectionReader(mem, run[0], run[1]-run[0]))
			found += bytes.Count(data, []byte(text))
		}
	}
	return found
}

// presentPages are the runs of pages of a mapping that are in memory.
func presentPages(t *testing.T, pid int, begin, end int64) [][2]int64 {
	t.Helper()
	const (
		entrySize = 8
		present   = 1 << 63
	)
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(os.Getpagesize())
	// The kernel's own page has no entry, and reads as an end.
	entries, _ := io.ReadAll(io.NewSectionReader(f, begin/size*entrySize, (end-begin)/size*entrySize))
	var runs [][2]int64
	for at := begin; len(entries) >= entrySize; at, entries = at+size, entries[entrySize:] {
		if binary.LittleEndian.Uint64(entries)&present == 0 {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1][1] == at {
			runs[n-1][1] += size
			continue
		}
		runs = append(runs, [2]int64{at, at + size})
	}
	return runs
}
