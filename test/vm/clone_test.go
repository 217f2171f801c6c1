package vm

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// savedMachine is a template as 'template list --format json' describes it.
type savedMachine struct {
	Key                    string
	MemorySize, MemoryUsed int64
	Created                time.Time
}

// templates lists the templates of an installation.
func (in *installation) templates() []savedMachine {
	in.t.Helper()
	var all []savedMachine
	if err := json.Unmarshal([]byte(in.must("template", "list", "--format", "json")), &all); err != nil {
		in.t.Fatal(err)
	}
	return all
}

// ownTemplates gives an installation a store of templates that others do not
// change, with the images of all.
func (in *installation) ownTemplates(settings ...string) (dir string) {
	in.t.Helper()
	root := in.mkdir("store")
	in.configure(append([]string{"storage.root=" + quote(root)}, settings...)...)
	return filepath.Join(root, "templates")
}

// sandboxLog runs a container for as long as its sandbox's log is looked at.
func (in *installation) sandboxLog(flags ...string) string {
	in.t.Helper()
	id := in.must(append(append([]string{"run", "-d"}, flags...), busybox(), "sleep", "1000")...)
	defer in.must("rm", "-f", id)
	data, err := os.ReadFile(filepath.Join(in.state, id, "sandbox.log"))
	if err != nil {
		in.t.Fatal(err)
	}
	return string(data)
}

const (
	saysClone = "clone running"
	saysBoot  = "no clone could be started, booting instead"
	// The agent of a template says so on its console.
	saysRehearsed = "a container was rehearsed"
)

// TestRehearsal wants a container run in a template before it is saved, and in
// no other machine. That it is missing would only be felt.
func TestRehearsal(t *testing.T) {
	in := install(t)
	// Another test may have made the template that all share.
	in.configure("storage.root=" + quote(in.path("storage")))
	if log := in.sandboxLog(); !strings.Contains(log, saysRehearsed) {
		t.Errorf("the first start makes a template without a rehearsal\n%s", log)
	}
	for name, flags := range map[string][]string{"clone": nil, "boot": {"--no-template"}} {
		if log := in.sandboxLog(flags...); strings.Contains(log, saysRehearsed) {
			t.Errorf("a rehearsal in a %s\n%s", name, log)
		}
	}
}

// TestCloneOrBoot looks how a machine is started with each switch.
func TestCloneOrBoot(t *testing.T) {
	in := install(t)
	for _, tt := range []struct {
		enabled string
		flags   []string
		clone   bool
	}{
		{"true", nil, true}, {"true", []string{"--no-template"}, false}, {"false", nil, false},
	} {
		in.configure("template.enabled=" + tt.enabled)
		if log := in.sandboxLog(tt.flags...); strings.Contains(log, saysClone) != tt.clone || strings.Contains(log, saysBoot) {
			t.Errorf("template.enabled=%s %q; want a clone: %v\n%s", tt.enabled, tt.flags, tt.clone, log)
		}
	}
}

// TestTemplateCommand makes the template that a run uses, and removes it.
func TestTemplateCommand(t *testing.T) {
	in := install(t)
	in.ownTemplates()
	key := in.must("template", "create", "--memory", "192m", "--network", "none")
	if again := in.must("template", "create", "--memory", "192m", "--network", "none"); again != key {
		t.Errorf("made %s and %s", key, again)
	}
	in.must("run", "--rm", "--memory", "192m", "--network", "none", busybox(), "true")
	all := in.templates()
	if len(all) != 1 || all[0].Key != key || all[0].MemorySize != 192<<20 || all[0].MemoryUsed == 0 || all[0].MemoryUsed > 192<<20 || time.Since(all[0].Created) > time.Hour {
		t.Fatalf("templates %+v, want %s alone", all, key)
	}
	if out := in.must("template", "list"); !strings.Contains(out, key) || !strings.Contains(out, "192 MiB") {
		t.Errorf("template list:\n%s", out)
	}
	in.must("template", "rm", key)
	in.dougong("template", "rm", key).wantError(t, 1, key, "not found")
	in.must("template", "create", "--memory", "192m")
	in.must("template", "rm", "--all")
	if all := in.templates(); len(all) != 0 {
		t.Errorf("left: %+v", all)
	}
}

// identityScript reads what must differ from clone to clone, entropy first.
const identityScript = `
set -- $(dd if=/dev/urandom bs=16 count=1 2> /dev/null | od -An -tx1)
read uuid < /proc/sys/kernel/random/uuid
read boot < /proc/sys/kernel/random/boot_id
read mac < /sys/class/net/eth0/address
echo "random=$*"; echo "uuid=$uuid"; echo "boot=$boot"; echo "mac=$mac"; echo "host=$(hostname)"; echo "time=$(date +%s)"
`

// TestClonesDiffer starts many clones of one template, as copies of its VMM and
// without that.
func TestClonesDiffer(t *testing.T) {
	for _, kept := range []string{"true", "false"} {
		t.Run("keep_vmm="+kept, func(t *testing.T) { clonesDiffer(t, install(t, "template.keep_vmm="+kept)) })
	}
}

func clonesDiffer(t *testing.T, in *installation) {
	n := 12
	if suite.long {
		n = 100
	}
	in.must("template", "create")
	seen, mu := map[string]int{}, sync.Mutex{}
	work := make(chan int, n)
	for i := range n {
		work <- i
	}
	close(work)
	var all sync.WaitGroup
	for range parallel {
		all.Go(func() {
			for i := range work {
				r := in.dougong("run", "--rm", busybox(), "sh", "-c", identityScript)
				now, f := time.Now(), facts(r.stdout)
				if r.code != 0 || len(f) != 6 || len(f["random"]) != 47 {
					t.Error(r)
					return
				}
				// The command has ended since; that takes no ten seconds.
				if at, err := strconv.ParseInt(f["time"], 10, 64); err != nil || at > now.Unix()+2 || at < now.Unix()-10 {
					t.Errorf("clone %d believes it is %s, and it is %d", i, f["time"], now.Unix())
				}
				delete(f, "time")
				mu.Lock()
				for name, value := range f {
					if other, twice := seen[name+value]; twice {
						t.Errorf("clones %d and %d have the same %s: %s", other, i, name, value)
					}
					seen[name+value] = i
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

// TestCloneClock asks a clone for the time while the test looks on.
func TestCloneClock(t *testing.T) {
	in := install(t)
	in.must("template", "create")
	in.must("run", "-d", "--name", "box", busybox(), "sleep", "1000")
	defer in.must("rm", "-f", "box")
	before := time.Now().Unix()
	at, err := strconv.ParseInt(in.must("exec", "box", "date", "+%s"), 10, 64)
	if after := time.Now().Unix(); err != nil || at < before-2 || at > after+2 {
		t.Errorf("the guest says %d, and it was between %d and %d; %v", at, before, after, err)
	}
}

// TestDamagedTemplate damages what no check sees, so that the clone fails when
// it is loaded or does not run.
func TestDamagedTemplate(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"device state": damageState,
		"memory":       damageMemory,
	} {
		t.Run(name, func(t *testing.T) {
			in := install(t)
			// A clone that does not run is given up after a quarter of it. One that
			// is a copy of the VMM has no use for the device state.
			dir := in.ownTemplates(`vm.boot_timeout="10s"`, "template.keep_vmm="+strconv.FormatBool(name == "memory"))
			key := in.must("template", "create")
			damage(t, filepath.Join(dir, key))
			if log := in.sandboxLog(); !strings.Contains(log, saysBoot) || strings.Contains(log, saysClone) {
				t.Errorf("log:\n%s", log)
			}
			if all := in.templates(); len(all) != 0 {
				t.Errorf("the damaged template is still there: %+v", all)
			}
			if log := in.sandboxLog(); !strings.Contains(log, saysClone) {
				t.Errorf("the next one is no clone of a new template:\n%s", log)
			}
		})
	}
}

// damageState replaces the device state and has the manifest agree.
func damageState(t *testing.T, dir string) {
	t.Helper()
	junk := []byte(strings.Repeat("junk", 1000))
	if err := os.WriteFile(filepath.Join(dir, "state"), junk, 0o600); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(dir, "manifest.json")
	data, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	fields["stateDigest"] = fmt.Sprintf("%x", sha256.Sum256(junk))
	if data, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damageMemory makes all of the memory zero.
func damageMemory(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "memory")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{0, info.Size()} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoSpaceForTemplate boots what cannot be cloned, and leaves the full disk
// as it was.
func TestNoSpaceForTemplate(t *testing.T) {
	in := install(t)
	dir := in.ownTemplates()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("small", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if log := in.sandboxLog(); !strings.Contains(log, saysBoot) || !strings.Contains(log, "free space") {
		t.Errorf("log:\n%s", log)
	}
	in.dougong("template", "create").wantError(t, 1, dir, "free space")
	if all := in.templates(); len(all) != 0 {
		t.Errorf("templates %+v", all)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestStaleTemplate goes with the first start on another kernel.
func TestStaleTemplate(t *testing.T) {
	in := install(t)
	in.ownTemplates()
	old := in.must("template", "create")
	kernel := filepath.Join(in.dir, kernelFile)
	if err := copyFile(kernel+".new", kernel); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(kernel+".new", kernel); err != nil {
		t.Fatal(err)
	}
	if log := in.sandboxLog(); !strings.Contains(log, "template is stale and goes") || !strings.Contains(log, kernel) || !strings.Contains(log, saysClone) {
		t.Errorf("log:\n%s", log)
	}
	if all := in.templates(); len(all) != 1 || all[0].Key == old {
		t.Errorf("templates %+v, and %s is stale", all, old)
	}
}

// TestTemplateInMemory keeps small templates in memory and large ones on disk.
func TestTemplateInMemory(t *testing.T) {
	in := install(t)
	memory := in.mkdir("memory")
	if err := unix.Mount("memory", memory, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(memory, 0); err != nil {
			t.Error(err)
		}
	})
	root := in.mkdir("store")
	inMemory := func(mib int) []string {
		t.Helper()
		in.configure("storage.root="+quote(root), "template.memory_dir="+quote(filepath.Join(memory, "templates")), fmt.Sprintf("template.memory_mib=%d", mib))
		if log := in.sandboxLog(); !strings.Contains(log, saysClone) || strings.Contains(log, saysBoot) {
			t.Errorf("log:\n%s", log)
		}
		if len(in.templates()) != 1 {
			t.Errorf("templates %+v, want one", in.templates())
		}
		found, err := filepath.Glob(filepath.Join(memory, "templates", "*", "*", "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := inMemory(256); len(found) != 1 || !strings.Contains(in.must("template", "list"), " memory ") {
		t.Errorf("in memory: %q\n%s", found, in.must("template", "list"))
	}
	in.must("template", "rm", "--all")
	if found := inMemory(1); len(found) != 0 || !strings.Contains(in.must("template", "list"), " disk ") {
		t.Errorf("in memory: %q\n%s", found, in.must("template", "list"))
	}
}

// TestSlowClonesAreNotUsed has clones that took longer than the boot.
func TestSlowClonesAreNotUsed(t *testing.T) {
	in := install(t)
	dir := in.ownTemplates()
	key := in.must("template", "create")
	slow := strings.Repeat(",3600000000000", 9)[1:]
	if err := os.WriteFile(filepath.Join(dir, key, "pace.json"), []byte(`{"clones":[`+slow+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if log := in.sandboxLog(); !strings.Contains(log, saysBoot) || !strings.Contains(log, "take 1h0m0s here, a boot") || strings.Contains(log, saysClone) {
		t.Errorf("log:\n%s", log)
	}
	if all := in.templates(); len(all) != 1 {
		t.Errorf("a slow template is not a damaged one: %+v", all)
	}
	// The boot was measured, and is what the next ones are compared with.
	pace, err := os.ReadFile(filepath.Join(dir, key, "pace.json"))
	if err != nil || !strings.Contains(string(pace), `"boot":`) {
		t.Errorf("pace %s, %v", pace, err)
	}
	if err := os.Remove(filepath.Join(dir, key, "pace.json")); err != nil {
		t.Fatal(err)
	}
	if log := in.sandboxLog(); !strings.Contains(log, saysClone) {
		t.Errorf("log:\n%s", log)
	}
}

// TestFailureKeepsTemplate: what a boot fails of too says nothing against the
// template.
func TestFailureKeepsTemplate(t *testing.T) {
	in := install(t)
	in.ownTemplates()
	key := in.must("template", "create")
	port := strconv.Itoa(freePort(t))
	in.must("run", "-d", "--name", "first", "-p", "127.0.0.1:"+port+":80", busybox(), "sleep", "1000")
	defer in.must("rm", "-f", "first")
	in.dougong("run", "--rm", "-p", "127.0.0.1:"+port+":80", busybox(), "true").wantError(t, 125, port, "in use")
	if all := in.templates(); len(all) != 1 || all[0].Key != key {
		t.Errorf("templates %+v, want %s", all, key)
	}
}

// TestTemplateStaysAsItIs has clones use and free memory, and be removed under
// a running one.
func TestTemplateStaysAsItIs(t *testing.T) {
	in := install(t)
	dir := in.ownTemplates()
	key := in.must("template", "create")
	before := digest(t, filepath.Join(dir, key, "memory"))
	in.must("run", "-d", "--name", "box", busybox(), "sleep", "1000")
	defer in.must("rm", "-f", "box")
	// Free pages are reported to the host within two seconds, if at all.
	in.must("exec", "box", "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=50 2> /dev/null; rm /big; sleep 4")
	if after := digest(t, filepath.Join(dir, key, "memory")); after != before {
		t.Error("a clone has changed the memory of its template")
	}
	in.must("template", "rm", "--all")
	if out := in.must("exec", "box", "sh", "-c", "ls /bin | wc -l && echo well"); !strings.HasSuffix(out, "well") {
		t.Errorf("a clone whose template was removed says %q", out)
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestCloneWithCopy is a clone that shares no memory with its template.
func TestCloneWithCopy(t *testing.T) {
	in := install(t, "template.share_memory=false")
	if log := in.sandboxLog(); !strings.Contains(log, saysClone) {
		t.Errorf("log:\n%s", log)
	}
}

// TestCloneWithShare plugs a shared directory into a clone.
func TestCloneWithShare(t *testing.T) {
	in := install(t)
	share := in.mkdir("share")
	in.writeFile("share/by-host", "host")
	in.must("run", "-d", "--name", "box", "-v", share+":/share", busybox(), "sleep", "1000")
	defer in.must("rm", "-f", "box")
	if out := in.must("exec", "box", "sh", "-c", "cat /share/by-host && echo guest > /share/by-guest"); out != "host" {
		t.Errorf("the guest reads %q", out)
	}
	if data, err := os.ReadFile(filepath.Join(share, "by-guest")); err != nil || string(data) != "guest\n" {
		t.Errorf("the guest wrote %q, %v", data, err)
	}
	if !in.logSays(saysClone) || in.logSays(saysBoot) {
		t.Error("it is no clone")
	}
}

// TestFirstRunsMakeOneTemplate starts two where there is no template.
func TestFirstRunsMakeOneTemplate(t *testing.T) {
	in := install(t)
	in.ownTemplates()
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if r := in.dougong("run", "--rm", busybox(), "echo", "well"); r.code != 0 || r.stdout != "well\n" {
				t.Error(r)
			}
		})
	}
	both.Wait()
	if all := in.templates(); len(all) != 1 {
		t.Errorf("templates %+v, want one", all)
	}
}

// TestKillWhileMakingByHand kills 'template create'. Its machine ends with it,
// and what it left goes with the next command that looks at templates.
func TestKillWhileMakingByHand(t *testing.T) {
	in := install(t)
	dir := in.ownTemplates()
	cmd := in.command("template", "create")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a template being made", func() bool { return len(in.find("qemu")) > 0 })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, "the end of all processes", func() bool { return len(processesOf(in.dir)) == 0 })
	if all := in.templates(); len(all) != 0 {
		t.Errorf("templates %+v", all)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
