package main

import "math/rand/v2"

// Words for containers without a --name: parts of timber buildings and trees.
var (
	nameFirst  = []string{"amber", "ancient", "bold", "bright", "broad", "calm", "carved", "cedar", "clear", "deep", "elm", "fair", "firm", "gilded", "high", "jade", "keen", "light", "lofty", "mellow", "noble", "oaken", "painted", "pine", "plain", "quiet", "red", "silent", "sound", "still", "stout", "swift", "tall", "warm", "wide"}
	nameSecond = []string{"arch", "beam", "bracket", "cantilever", "column", "corbel", "dado", "dovetail", "eave", "frame", "gable", "girder", "hall", "joint", "joist", "keystone", "lattice", "lintel", "mortise", "pagoda", "pavilion", "peg", "pillar", "plinth", "purlin", "rafter", "ridge", "roof", "sill", "tenon", "threshold", "tower", "truss", "veranda"}
)

// madeUpName returns a name that is easy to type. Two that are equal by
// chance are refused like any other.
func madeUpName() string {
	return nameFirst[rand.IntN(len(nameFirst))] + "-" + nameSecond[rand.IntN(len(nameSecond))] + "-" + string(rune('a'+rand.IntN(26))) + string(rune('0'+rand.IntN(10))) + string(rune('0'+rand.IntN(10)))
}
