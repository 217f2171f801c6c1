package sandbox

import "iter"

// OOMs yields whenever the guest's kernel has killed processes of the
// container for want of memory, and ends with the container.
func (c *Container) OOMs() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		<-c.init.Exited()
	}
}
