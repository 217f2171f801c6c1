package shim

import "github.com/containerd/errdefs"

// refusal is an error of class invalid argument that reads as it was.
type refusal struct{ text string }

func (r refusal) Error() string        { return r.text }
func (r refusal) Is(target error) bool { return target == errdefs.ErrInvalidArgument }

// refuse hides that something is not implemented: containerd 2 takes that
// class as the word of an old shim, asks once more by the older protocol, and
// hangs on standard streams whose reader is gone by then.
func refuse(err error) error {
	if errdefs.IsNotImplemented(err) {
		return refusal{text: err.Error()}
	}
	return err
}
