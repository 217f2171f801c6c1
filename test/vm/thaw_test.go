package vm

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// saysThawed is what the log of a clone has that is a copy of its template's VMM.
const saysThawed = "thawed=true"

// TestThaw looks how clones are started with each switch.
func TestThaw(t *testing.T) {
	in := install(t)
	share := in.mkdir("share")
	in.writeFile("share/f", "shared")
	in.ownTemplates()
	store := "storage.root=" + quote(in.path("store"))
	for _, tt := range []struct {
		name, setting string
		flags         []string
		thawed        bool
	}{
		{"as it is", "template.keep_vmm=true", nil, true},
		{"shared directory", "template.keep_vmm=true", []string{"-v", share + ":/share"}, true},
		{"memory of its own", "template.share_memory=false", nil, true},
		{"no network", "template.keep_vmm=true", []string{"--network", "none"}, true},
		{"small", "template.keep_vmm=true", []string{"--memory", "128m"}, true},
		{"switched off", "template.keep_vmm=false", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in.configure(store, tt.setting)
			log := in.sandboxLog(tt.flags...)
			if !strings.Contains(log, saysClone) || strings.Contains(log, saysBoot) || strings.Contains(log, saysThawed) != tt.thawed {
				t.Errorf("want a clone, thawed: %v\n%s", tt.thawed, log)
			}
		})
	}
}

// TestThawedLife has a copy of a VMM do what machines do: more than one
// process, much output, memory that is written to, and an end of its own.
func TestThawedLife(t *testing.T) {
	in := install(t)
	share := in.mkdir("share")
	in.must("run", "-d", "--name", "box", "-v", share+":/share", busybox(), "sleep", "1000")
	defer in.must("rm", "-f", "box")
	if !in.logSays(saysThawed) {
		t.Fatalf("it is no copy of a VMM:\n%s", in.sandboxLog())
	}
	in.must("exec", "box", "sh", "-c", "dd if=/dev/zero of=/dev/shm/big bs=1M count=40 2>/dev/null; echo guest >/share/f")
	if data, err := os.ReadFile(filepath.Join(share, "f")); err != nil || string(data) != "guest\n" {
		t.Errorf("the guest wrote %q, %v", data, err)
	}
	if out := in.must("exec", "box", "sh", "-c", "yes | head -n 500000 | wc -c"); out != "1000000" {
		t.Errorf("counted %s", out)
	}
	if r := in.dougong("run", "--rm", "-i", busybox(), "sh", "-c", "echo on; exit 7"); r.code != 7 || r.stdout != "on\n" {
		t.Error(r)
	}
}

// TestDamagedVMM damages what a copy of a VMM is made of. The machine is a clone
// all the same, and nothing of the attempt is left.
func TestDamagedVMM(t *testing.T) {
	for name, tt := range map[string]struct {
		damage func(t *testing.T, dir string)
		says   string
		// stays is how often it is tried again.
		stays int
	}{
		"no pages":    {func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, "pages"), 0) }, "is of no use and goes", 0},
		"no manifest": {func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, "process.json"), 0) }, "is of no use and goes", 0},
		"bad program": {badProgram, "cannot be thawed", 2},
		"other boot":  {otherBoot, "is of no use and goes", 0},
	} {
		t.Run(name, func(t *testing.T) {
			in := install(t)
			dir := in.ownTemplates()
			key := in.must("template", "create")
			tt.damage(t, filepath.Join(dir, key, "vmm"))
			for range tt.stays + 1 {
				if _, err := os.Stat(filepath.Join(dir, key, "vmm")); err != nil {
					t.Errorf("gone before it was tried often: %v", err)
				}
				if log := in.sandboxLog(); !strings.Contains(log, saysClone) || strings.Contains(log, saysThawed) || !strings.Contains(log, tt.says) {
					t.Errorf("want %q, log:\n%s", tt.says, log)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, key, "vmm")); !os.IsNotExist(err) {
				t.Errorf("what is of no use is still there: %v", err)
			}
			if log := in.sandboxLog(); !strings.Contains(log, saysClone) || strings.Contains(log, tt.says) {
				t.Errorf("log of the next:\n%s", log)
			}
			if left := processesOf(in.dir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// otherBoot has the process have been frozen before the machine was booted.
func otherBoot(t *testing.T, dir string) {
	t.Helper()
	changeVMM(t, dir, func(fields map[string]any) { fields["BootID"] = "00000000-0000-0000-0000-000000000000" })
}

// badProgram has the first system call of the program be none.
func badProgram(t *testing.T, dir string) {
	t.Helper()
	changeVMM(t, dir, func(fields map[string]any) {
		steps, err := base64.StdEncoding.DecodeString(fields["Steps"].(string))
		if err != nil {
			t.Fatal(err)
		}
		copy(steps, "\x00\x00\x10")
		fields["Steps"] = base64.StdEncoding.EncodeToString(steps)
	})
}

// changeVMM changes the description of a VMM that is kept. Numbers stay as they
// are written: addresses are more than a float holds.
func changeVMM(t *testing.T, dir string, change func(fields map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, "process.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil {
		t.Fatal(err)
	}
	change(fields)
	if data, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
