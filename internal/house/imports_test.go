package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// rule limits what packages may depend on, directly or through others. Paths
// that begin with api, cmd, hack or internal are below the module.
type rule struct {
	name string
	// from are the packages it is about; a trailing "/..." takes those below.
	from []string
	// except takes packages out again.
	except []string
	// only lists all packages of the module that they may depend on; nil
	// means any.
	only []string
	// never lists packages, of whatever module, that they must not depend on.
	never []string
}

// heavy is for the command alone: it starts, works and ends.
var heavy = []string{
	"github.com/spf13/cobra/...", "github.com/google/go-containerregistry/...", "github.com/vbauerster/mpb/...",
	"github.com/containerd/containerd/v2/...", "github.com/open-policy-agent/...", "google.golang.org/grpc",
	"google.golang.org/grpc/internal/transport", "go.opentelemetry.io/...", "net/http", "go/parser", "html/template", "text/template",
}

var rules = []rule{
	{
		name:  "the host never imports the guest",
		from:  []string{"cmd/...", "internal/...", "api/..."},
		never: []string{"internal/guest/..."}, except: []string{"internal/guest/...", "cmd/dougong-agent"},
	},
	{
		name: "the guest imports api, transport, oci and idmap alone",
		from: []string{"internal/guest/..."},
		only: []string{"internal/guest/...", "api/...", "internal/transport", "internal/oci", "internal/idmap"},
	},
	{name: "nobody imports a command", from: []string{"internal/...", "api/...", "hack/..."}, never: []string{"cmd/..."}},
	{
		name:  "the core does not know who asks, nor where images come from",
		from:  []string{"internal/sandbox"},
		never: []string{"internal/shim", "internal/engine", "internal/image/...", "internal/config", "internal/guestimage", "internal/containerlog"},
	},
	{
		name:  "the shim takes no images and is nobody's client",
		from:  []string{"internal/shim"},
		never: []string{"internal/engine", "internal/image/..."},
	},
	{
		name:  "the engine is a client of the sandbox process, not a part of it",
		from:  []string{"internal/engine"},
		never: []string{"internal/sandbox", "internal/shim", "internal/qemu", "internal/virtiofsd", "internal/agent", "internal/image/..."},
	},
	{
		name:  "the OCI commands are clients of the sandbox process, not a part of it",
		from:  []string{"internal/ocirun"},
		never: []string{"internal/sandbox", "internal/shim", "internal/qemu", "internal/virtiofsd", "internal/agent", "internal/image/..."},
	},
	{
		name: "images know nothing of sandboxes",
		from: []string{"internal/image/..."},
		only: []string{"internal/image/..."},
	},
	{
		name: "the VMM knows nothing of containers",
		from: []string{"internal/qemu", "internal/qmp/..."},
		only: []string{"internal/qemu", "internal/qmp/...", "internal/vmm", "internal/child", "internal/freeze", "internal/reclaim", "internal/tsc"},
	},
	{
		name: "planning storage needs the agent's messages and mappings of ids alone",
		from: []string{"internal/storage"}, only: []string{"internal/storage", "api/...", "internal/idmap"},
	},
	{
		name: "a network namespace needs the agent's messages alone",
		from: []string{"internal/network"}, only: []string{"internal/network", "api/..."},
	},
	{
		name: "a pool does not know what a machine is made of",
		from: []string{"internal/pool", "internal/pool/keeper"}, only: []string{"internal/pool", "internal/pool/keeper", "internal/socket"},
	},
	{
		name: "a frozen process is no machine",
		from: []string{"internal/freeze"}, only: []string{"internal/freeze", "internal/child"},
	},
	{name: "leaves", from: []string{"internal/timeline"}, only: []string{"internal/timeline"}},
	{name: "leaves", from: []string{"internal/tsc"}, only: []string{"internal/tsc"}},
	{name: "leaves", from: []string{"internal/vmm"}, only: []string{"internal/vmm"}},
	{name: "leaves", from: []string{"internal/transport"}, only: []string{"internal/transport"}},
	{name: "leaves", from: []string{"internal/qmp"}, only: []string{"internal/qmp"}},
	{name: "leaves", from: []string{"internal/seccomp"}, only: []string{"internal/seccomp"}},
	{name: "leaves", from: []string{"internal/oci"}, only: []string{"internal/oci"}},
	{name: "leaves", from: []string{"internal/idmap"}, only: []string{"internal/idmap"}},
	{name: "leaves", from: []string{"internal/config"}, only: []string{"internal/config"}},
	{name: "leaves", from: []string{"internal/standin"}, only: []string{"internal/standin", "internal/child"}},
	{name: "leaves", from: []string{"internal/handover"}, only: []string{"internal/handover", "internal/socket"}},
	{name: "leaves", from: []string{"internal/record"}, only: []string{"internal/record"}},
	{name: "leaves", from: []string{"internal/cgroup"}, only: []string{"internal/cgroup"}},
	{name: "leaves", from: []string{"internal/sizing"}, only: []string{"internal/sizing"}},
	{name: "leaves", from: []string{"internal/containerlog"}, only: []string{"internal/containerlog"}},
	{name: "measuring is for the command alone", from: []string{"cmd/containerd-shim-dougong-v2", "cmd/dougong-agent", "internal/..."}, except: []string{"internal/bench"}, never: []string{"internal/bench"}},
	{name: "processes that stay are small", from: []string{"cmd/containerd-shim-dougong-v2", "cmd/dougong-agent"}, never: heavy},
}

// graph is what each of the module's packages depends on, directly or not.
// Names are from the module's root where they are below it.
type graph map[string][]string

func short(path string) string { return strings.TrimPrefix(path, module+"/") }

func loadGraph(t *testing.T) graph {
	t.Helper()
	g := graph{}
	decoder := json.NewDecoder(bytes.NewReader(goTool(t, "list", "-tags", "no_grpc", "-deps", "-json=ImportPath,Deps", "./...")))
	for {
		var p struct {
			ImportPath string
			Deps       []string
		}
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return g
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(p.ImportPath, module+"/") {
			continue
		}
		g[short(p.ImportPath)] = nil
		for _, dep := range p.Deps {
			// The standard library has packages named internal/… too.
			if !ours(dep) {
				g[short(p.ImportPath)] = append(g[short(p.ImportPath)], short(dep))
			}
		}
	}
}

// matches says whether path is one of patterns.
func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, tree := strings.CutSuffix(pattern, "/...")
		return path == prefix || tree && strings.HasPrefix(path, prefix+"/")
	})
}

// ours says whether a path has the form of a shortened one of the module's.
func ours(path string) bool {
	return matches(path, []string{"api/...", "cmd/...", "hack/...", "internal/..."})
}

// broken lists where g does not keep to r, and an idle rule.
func (r rule) broken(g graph) []string {
	var found []string
	subjects := 0
	for from, deps := range g {
		if !matches(from, r.from) || matches(from, r.except) {
			continue
		}
		subjects++
		for _, dep := range deps {
			if matches(dep, r.never) || r.only != nil && ours(dep) && !matches(dep, r.only) {
				found = append(found, fmt.Sprintf("%s depends on %s", from, dep))
			}
		}
	}
	if subjects == 0 {
		found = append(found, fmt.Sprintf("there is no package %q any more", r.from))
	}
	slices.Sort(found)
	return found
}

func TestImports(t *testing.T) {
	g := loadGraph(t)
	for _, r := range rules {
		for _, problem := range r.broken(g) {
			t.Errorf("%s: %s", r.name, problem)
		}
	}
}

// Rules that cannot be broken hold nothing.
func TestRulesCanBeBroken(t *testing.T) {
	g := graph{
		"internal/vmm":                   {"fmt", "internal/qmp"},
		"internal/sandbox":               {"internal/shim", "internal/qemu"},
		"internal/guest/agent":           {"internal/guest/mount", "internal/config", "net"},
		"internal/qemu":                  {"internal/vmm", "internal/guest/agent"},
		"cmd/dougong-agent":              {"internal/guest/agent"},
		"cmd/containerd-shim-dougong-v2": {"net", "net/http", "google.golang.org/grpc/codes"},
	}
	want := map[string]string{
		"the host never imports the guest":                                      "internal/qemu depends on internal/guest/agent",
		"the guest imports api, transport, oci and idmap alone":                 "internal/guest/agent depends on internal/config",
		"the core does not know who asks, nor where images come from":           "internal/sandbox depends on internal/shim",
		"processes that stay are small":                                         "cmd/containerd-shim-dougong-v2 depends on net/http",
		"planning storage needs the agent's messages and mappings of ids alone": `there is no package ["internal/storage"] any more`,
		"the VMM knows nothing of containers":                                   "internal/qemu depends on internal/guest/agent",
		"nobody imports a command":                                              "",
		"the shim takes no images and is nobody's client":                       `there is no package ["internal/shim"] any more`,
		"the engine is a client of the sandbox process, not a part of it":       `there is no package ["internal/engine"] any more`,
	}
	for _, r := range rules {
		if problem, ok := want[r.name]; ok {
			if got := strings.Join(r.broken(g), "; "); got != problem {
				t.Errorf("%s: got %q, want %q", r.name, got, problem)
			}
		}
	}
}
