package bench

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

func TestFindCRI(t *testing.T) {
	places, path := cniPlaces, os.Getenv("PATH")
	defer func() { cniPlaces = places }()
	dir := t.TempDir()
	t.Setenv("PATH", "/no/such")
	cniPlaces = []string{"/no/such", dir}
	if _, err := findCRI(dir); !errors.Is(err, errNoTool) || !strings.Contains(err.Error(), "crictl") {
		t.Errorf("without crictl: %v", err)
	}
	t.Setenv("PATH", path)
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("crictl")
	if _, err := findCRI(dir); !errors.Is(err, errNoTool) || !strings.Contains(err.Error(), "bridge") {
		t.Errorf("without plugins: %v", err)
	}
	write("bridge")
	if c, err := findCRI(dir); err != nil || c.plugins != dir || c.crictl != filepath.Join(dir, "crictl") {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestContainerdConfig is read by containerd as two handlers, and by CNI as one
// network.
func TestContainerdConfig(t *testing.T) {
	d := &containerd{dir: t.TempDir(), cri: &cri{plugins: "/plugins"}}
	path, err := d.configure(map[string]string{"dougong": "/a.toml", "boot": "/b.toml"})
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Disabled []string `toml:"disabled_plugins"`
		Plugins  map[string]struct {
			CNI struct {
				Bin string `toml:"bin_dir"`
				Dir string `toml:"conf_dir"`
			}
			Containerd struct {
				Runtimes map[string]struct {
					Type    string `toml:"runtime_type"`
					Options struct{ ConfigPath string }
				}
			}
		}
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = toml.Unmarshal(text, &config)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := config.Plugins["io.containerd.grpc.v1.cri"]
	if r := c.Containerd.Runtimes; len(r) != 2 || r["boot"].Options.ConfigPath != "/b.toml" || r["dougong"].Type != ctrRuntime {
		t.Errorf("handlers: %+v", r)
	}
	if c.CNI.Bin != "/plugins" || strings.Contains(strings.Join(config.Disabled, " "), "cri") {
		t.Errorf("%s", text)
	}
	lists, err := filepath.Glob(filepath.Join(c.CNI.Dir, "*.conflist"))
	if err != nil || len(lists) != 1 {
		t.Fatalf("networks: %v, %v", lists, err)
	}
	if data, err := os.ReadFile(lists[0]); err != nil || !json.Valid(data) {
		t.Errorf("network: %s, %v", data, err)
	}
	d.cri = nil
	if path, err = d.configure(nil); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(path); err != nil || !strings.Contains(string(text), "io.containerd.grpc.v1.cri\"") {
		t.Errorf("without pods: %s, %v", text, err)
	}
}

func TestNewPod(t *testing.T) {
	d := &containerd{dir: t.TempDir()}
	p, err := d.newPod()
	if err != nil {
		t.Fatal(err)
	}
	q, err := d.newPod()
	if err != nil || p.name == q.name {
		t.Errorf("two pods are %s and %s, %v", p.name, q.name, err)
	}
	for _, path := range []string{p.config, p.container, p.again()} {
		if data, err := os.ReadFile(path); err != nil || !json.Valid(data) || !strings.Contains(string(data), "metadata") {
			t.Errorf("%s: %s, %v", path, data, err)
		}
	}
}

// TestBorrow gives back what was made, and only that.
func TestBorrow(t *testing.T) {
	there := t.TempDir()
	dir := filepath.Join(there, "a", "b")
	giveBack, err := borrow(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	giveBack()
	if left, err := os.ReadDir(there); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	giveBack, err = borrow(there)
	if err != nil {
		t.Fatal(err)
	}
	giveBack()
	if _, err := os.Stat(there); err != nil {
		t.Errorf("what was there is gone: %v", err)
	}
}

func TestParts(t *testing.T) {
	if err := (Options{Runs: 1, Only: []string{PartNetwork, "tea"}}).check(); err == nil || !strings.Contains(err.Error(), `"tea"`) {
		t.Errorf("an unknown part gives %v", err)
	}
	o := Options{Runs: 1}
	if err := o.check(); err != nil || !o.wants(PartClones) {
		t.Errorf("all: %v", err)
	}
	b := &bench{Options: Options{Runs: 1, Only: []string{PartNetwork}}, out: newSeries()}
	b.out.add(rowNetIn, 3)
	b.out.missing[rowNetPing] = "ping is not installed"
	var names []string
	for _, r := range b.rows() {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, ","); got != rowNetIn+","+rowNetPing || b.wants(PartStarts) {
		t.Errorf("rows: %s", got)
	}
}
