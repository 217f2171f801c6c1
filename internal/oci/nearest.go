package oci

// nearest is the name with the least edits to s, or "" when none is near.
func nearest(s string, names []string) string {
	best, bound := "", max(len(s)/3, 1)+1
	for _, name := range names {
		if d := distance(s, name); d < bound {
			best, bound = name, d
		}
	}
	return best
}

// distance is the number of edits of single bytes between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// hint ends an error about an unknown name, when one is near.
func hint(prefix, name string) string {
	if name == "" {
		return ""
	}
	return " (did you mean " + prefix + name + "?)"
}
