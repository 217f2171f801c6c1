package shim

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
)

func TestRefuseHidesWhatIsNotImplemented(t *testing.T) {
	before := fmt.Errorf("field x: %w", errdefs.ErrNotImplemented)
	after := refuse(before)
	if errdefs.IsNotImplemented(after) || !errdefs.IsInvalidArgument(after) || after.Error() != before.Error() {
		t.Errorf("got %v", after)
	}
	if !errors.Is(errdefs.Resolve(after), errdefs.ErrInvalidArgument) {
		t.Errorf("travels as %v", errdefs.Resolve(after))
	}
}

func TestRefuseKeepsOtherErrors(t *testing.T) {
	if err := refuse(nil); err != nil {
		t.Errorf("no error becomes %v", err)
	}
	for _, err := range []error{errdefs.ErrNotFound, errors.New("x")} {
		if got := refuse(err); !errors.Is(got, err) {
			t.Errorf("%v becomes %v", err, got)
		}
	}
}
