package shim

import (
	"fmt"
	"os"
	"path/filepath"
)

// standInRoot is the root directory of a container as the host sees it, or an
// empty one where the host does not see it.
func standInRoot(bundle, root string) (string, error) {
	if root != "" {
		return root, nil
	}
	empty := filepath.Join(stateDir(bundle), "empty")
	if err := os.MkdirAll(empty, 0o500); err != nil {
		return "", fmt.Errorf("make an empty root directory: %w", err)
	}
	return empty, nil
}
