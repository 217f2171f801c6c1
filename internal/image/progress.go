package image

import (
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Step is what is being done with a layer.
type Step string

// The steps, in their order.
const (
	StepFetch  Step = "fetch"
	StepUnpack Step = "unpack"
)

// Event tells how far a layer has come. Done equals Total when a step is over,
// and may do so at once for a layer that is in the store already.
type Event struct {
	Step  Step
	Layer digest.Digest
	// Done and Total are bytes of the layer as it is stored, compressed.
	Done, Total int64
}

// progress serializes the calls of a Progress function.
type progress struct {
	mu   sync.Mutex
	call func(Event)
}

// layer gives the function that takes the bytes done of one layer.
func (p *progress) layer(step Step, desc ocispec.Descriptor) func(int64) {
	if p == nil || p.call == nil {
		return nil
	}
	return func(done int64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.call(Event{Step: step, Layer: desc.Digest, Done: min(done, desc.Size), Total: desc.Size})
	}
}
