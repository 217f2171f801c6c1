package oci

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithoutRecursion(t *testing.T) {
	given := []string{"rbind", "rprivate", "rro", "rnosuid", "ro", "relatime"}
	want := []string{"rbind", "rprivate", "ro", "nosuid", "ro", "relatime"}
	if diff := cmp.Diff(want, WithoutRecursion(given)); diff != "" || given[2] != "rro" {
		t.Errorf("of %v %s", given, diff)
	}
}
