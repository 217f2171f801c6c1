package sandbox

import (
	"testing"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/idmap"
	"dougong.dev/dougong/internal/volume"
)

// Memory of the guest is one for all containers, so all must want the same owners;
// what the guest has mounted it shows once more for each mapping.
func TestVolumesByOwners(t *testing.T) {
	s := &Sandbox{}
	one, other := idmap.Map{UIDs: "0:1000:10", GIDs: "0:1000:10"}, idmap.Map{UIDs: "0:2000:10", GIDs: "0:2000:10"}
	first, err := s.memoryVolume(volume.Memory{}, "/memory", one)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.memoryVolume(volume.Memory{}, "/memory", one); again != first || err != nil {
		t.Errorf("the second container has %+v, %v", again, err)
	}
	if _, err := s.memoryVolume(volume.Memory{}, "/memory", other); !errdefs.IsNotImplemented(err) {
		t.Errorf("other owners give %v", err)
	}
	of := &guestVolume{name: "9"}
	a, err := s.shownAs("/disk", of, one)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.shownAs("/disk", of, one); b != a || err != nil {
		t.Errorf("the same owners give %+v, %v", b, err)
	}
	if b, err := s.shownAs("/disk", of, other); b == a || b.name == a.name || err != nil {
		t.Errorf("other owners give %+v, %v", b, err)
	}
}
