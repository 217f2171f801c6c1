package config

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestParseAnnotations(t *testing.T) {
	got, err := ParseAnnotations(map[string]string{
		"io.kubernetes.cri.container-type": "sandbox",
		AnnotationCPUs:                     "2",
		AnnotationMemory:                   "768",
		AnnotationNetwork:                  "none",
		AnnotationForwards:                 `[{"protocol":"tcp","hostPort":8080,"guestPort":80}]`,
		AnnotationTemplate:                 "off",
		AnnotationQueues:                   "4",
		AnnotationInbound:                  "10M",
		AnnotationOutbound:                 "64000",
	})
	if err != nil {
		t.Fatal(err)
	}
	off := false
	want := Overrides{
		Template: &off,
		CPUs:     2, MemoryMiB: 768, Network: "none",
		Forwards: []Forward{{Protocol: "tcp", HostPort: 8080, GuestPort: 80}},
		Link:     Link{Queues: 4, Inbound: 10_000_000, Outbound: 64_000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("overrides (-want +got):\n%s", diff)
	}
}

func TestParseAnnotationsRefuses(t *testing.T) {
	for key, values := range map[string][]string{
		AnnotationCPUs:                {"0", "-1", "two", ""},
		AnnotationMemory:              {"1g", "0"},
		AnnotationNetwork:             {"host", ""},
		AnnotationForwards:            {"{", `[{"hostPort":70000}]`, `"x"`},
		AnnotationTemplate:            {"", "true", "ON", "0"},
		AnnotationQueues:              {"", "0", "17", "-1", "two"},
		AnnotationInbound:             {"", "0", "63k", "1001G", "10m", "10Mbit", "-1M", "1.5M", "18446744073709551615G"},
		AnnotationOutbound:            {"M", "1T"},
		AnnotationFollow:              {"", "etc", "/etc,", "/etc /app,x"},
		AnnotationPrefix + "memoryMB": {"1"},
		AnnotationPrefix:              {"1"},
	} {
		for _, value := range values {
			if _, err := ParseAnnotations(map[string]string{key: value}); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s=%q gives %v, want an invalid argument", key, value, err)
			}
		}
	}
}

func TestAnnotationsAreAccepted(t *testing.T) {
	value := map[string]string{AnnotationNetwork: "user", AnnotationForwards: "[]", AnnotationTemplate: "on", AnnotationInbound: "1G", AnnotationOutbound: "64k", AnnotationFollow: "/etc/app"}
	for _, a := range Annotations() {
		v, ok := value[a.Name]
		if !ok {
			v = "1"
		}
		if _, err := ParseAnnotations(map[string]string{a.Name: v}); err != nil {
			t.Errorf("%s is documented and refused: %v", a.Name, err)
		}
	}
}

func TestFollow(t *testing.T) {
	for value, want := range map[string][]string{"/etc/app": {"/etc/app"}, "/a/, /b/../c": {"/a", "/c"}} {
		got, err := Follow(map[string]string{AnnotationFollow: value})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v %s", value, err, diff)
		}
	}
	if got, err := Follow(nil); got != nil || err != nil {
		t.Errorf("without the annotation: %v, %v", got, err)
	}
	if _, err := Follow(map[string]string{AnnotationFollow: "app"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a relative path: %v", err)
	}
}
