package oci

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// leaves lists every path of t that the table must have a row for. It stops at
// paths that have one, since a row covers everything below it.
func leaves(path string, t reflect.Type) []string {
	if _, ok := fieldByPath[path]; ok {
		return []string{path}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return leaves(path, t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return leaves(path+"[]", t.Elem())
		}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Struct {
			return leaves(path+"{}", t.Elem())
		}
	case reflect.Struct:
		return structLeaves(path, t)
	}
	return []string{path}
}

func structLeaves(path string, t reflect.Type) []string {
	var out []string
	for f := range t.Fields() {
		switch {
		case f.Anonymous:
			out = append(out, leaves(path, f.Type)...)
		case path == "":
			out = append(out, leaves(jsonName(f), f.Type)...)
		default:
			out = append(out, leaves(path+"."+jsonName(f), f.Type)...)
		}
	}
	return out
}

// A field that a new version of the specification brings must get a row.
func TestFieldsCoverTheSpec(t *testing.T) {
	var rows []string
	for _, f := range Fields() {
		rows = append(rows, f.Path)
	}
	want := leaves("", specType)
	for _, p := range want {
		if !slices.Contains(rows, p) {
			t.Errorf("the runtime spec's field %s has no row in the table", p)
		}
	}
	for _, p := range rows {
		if !slices.Contains(want, p) {
			t.Errorf("the table's row %s is no field of the runtime spec, or stands twice or below another row", p)
		}
	}
	if len(rows) != len(fieldByPath) {
		t.Errorf("%d rows for %d paths: a row is there twice", len(rows), len(fieldByPath))
	}
}

func TestFieldsSayWhy(t *testing.T) {
	for _, f := range Fields() {
		if (f.Rule == "") != (f.Class == Honoured) {
			t.Errorf("%s is %s with rule %q", f.Path, f.Class, f.Rule)
		}
	}
}

// An unknown field is refused at run time too.
func TestCarryRefusesUnknownField(t *testing.T) {
	row := fieldByPath["hostname"]
	delete(fieldByPath, "hostname")
	defer func() { fieldByPath["hostname"] = row }()
	spec := baseSpec()
	if _, err := Guest(spec, GuestOptions{ID: "c"}); err != nil {
		t.Fatalf("an unknown field that is not set: %v", err)
	}
	spec.Hostname = "web"
	_, err := Guest(spec, GuestOptions{ID: "c"})
	if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), `hostname "web"`) {
		t.Fatalf("got %v", err)
	}
}

// baseSpec is the least a container asks for.
func baseSpec() *specs.Spec {
	s := &specs.Spec{
		Version: "1.2.1",
		Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"},
		Root:    &specs.Root{Path: "/var/lib/rootfs"},
		Linux:   &specs.Linux{},
	}
	for _, ns := range []specs.LinuxNamespaceType{"pid", "network", "ipc", "uts", "mount", "cgroup"} {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: ns})
	}
	return s
}

// steps parts "a.b[].c" into "a", "b", "[]", "c".
func steps(path string) []string {
	path = strings.NewReplacer("[]", ".[]", "{}", ".{}").Replace(path)
	return strings.Split(path, ".")
}

// visit walks to path in v, making what is missing, and calls f there.
func visit(v reflect.Value, path []string, f func(reflect.Value)) {
	if v.Kind() == reflect.Pointer && len(path) > 0 {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		visit(v.Elem(), path, f)
		return
	}
	if len(path) == 0 {
		f(v)
		return
	}
	if path[0] == "[]" {
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		visit(v.Index(0), path[1:], f)
		return
	}
	for field := range v.Type().Fields() {
		if jsonName(field) == path[0] {
			visit(v.FieldByIndex(field.Index), path[1:], f)
			return
		}
	}
}

// fill sets everything in v to something that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		elem := reflect.New(v.Type().Elem()).Elem()
		fill(elem)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), elem)
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf("any"))
	case reflect.String:
		v.SetString("/x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	default:
		v.SetUint(7)
	}
}

// withField is baseSpec with one field filled; a mount gets a type that is known.
func withField(path string) *specs.Spec {
	s := baseSpec()
	if strings.HasPrefix(path, "mounts") {
		s.Mounts = []specs.Mount{{Destination: "/tmp", Type: "tmpfs"}}
	}
	visit(reflect.ValueOf(s).Elem(), steps(path), fill)
	return s
}

func fieldOf(s *specs.Spec, path string) any {
	var out any
	visit(reflect.ValueOf(s).Elem(), steps(path), func(v reflect.Value) { out = v.Interface() })
	return out
}

func TestGuestKeepsField(t *testing.T) {
	for _, f := range Fields() {
		if f.Class != Honoured {
			continue
		}
		t.Run(f.Path, func(t *testing.T) {
			host := withField(f.Path)
			plan, err := Guest(host, GuestOptions{ID: "c"})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fieldOf(host, f.Path), fieldOf(plan.Spec, f.Path)); diff != "" {
				t.Errorf("changed on the way (-host +guest):\n%s", diff)
			}
			if base := fieldOf(baseSpec(), f.Path); cmp.Equal(base, fieldOf(plan.Spec, f.Path)) {
				t.Errorf("the test sets nothing: %v", base)
			}
		})
	}
}

func TestGuestRefusesField(t *testing.T) {
	for _, f := range Fields() {
		if f.Class != Refused {
			continue
		}
		t.Run(f.Path, func(t *testing.T) {
			host := withField(f.Path)
			if f.Path == "linux.resources.memory.useHierarchy" {
				host.Linux.Resources.Memory.UseHierarchy = new(false)
			}
			_, err := Guest(host, GuestOptions{ID: "c"})
			if !errors.Is(err, errdefs.ErrNotImplemented) {
				t.Fatalf("got %v, want ErrNotImplemented", err)
			}
			shown := strings.ReplaceAll(f.Path, "[]", "[0]")
			if !strings.Contains(err.Error(), shown) || !strings.Contains(err.Error(), f.Rule) {
				t.Errorf("error %q names neither %s nor its rule", err, shown)
			}
		})
	}
}

// Values that ask for nothing must not stop a container: Docker writes them.
func TestGuestTakesNeutralValues(t *testing.T) {
	s := baseSpec()
	s.Process.ApparmorProfile = "unconfined"
	s.Linux.Resources = &specs.LinuxResources{
		BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(0)), WeightDevice: []specs.LinuxWeightDevice{}},
		Memory:  &specs.LinuxMemory{DisableOOMKiller: new(false), UseHierarchy: new(true), Kernel: new(int64(0))}, //nolint:staticcheck // Docker still sends it.
		CPU:     &specs.LinuxCPU{RealtimePeriod: new(uint64(0))},
		Network: &specs.LinuxNetwork{},
	}
	plan, err := Guest(s, GuestOptions{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if r := plan.Spec.Linux.Resources; r.BlockIO != nil || r.Network != nil || r.Memory.DisableOOMKiller != nil || r.Memory.UseHierarchy != nil {
		t.Errorf("a refused field reached the guest: %+v", r)
	}
	s.Linux.Resources.Memory.Swappiness = new(uint64(0))
	if _, err := Guest(s, GuestOptions{ID: "c"}); !errdefs.IsNotImplemented(err) {
		t.Errorf("swappiness 0 means something, got %v", err)
	}
}
