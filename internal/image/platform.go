package image

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func parsePlatform(text string) (*ocispec.Platform, error) {
	if text == "" {
		return &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || strings.Contains("/"+text+"/", "//") {
		return nil, fmt.Errorf("platform %q is not of the form OS/ARCH[/VARIANT]: %w", text, errdefs.ErrInvalidArgument)
	}
	return &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: strings.Join(parts[2:], "")}, nil
}

// checkPlatform compares as far as the image says what it is for.
func checkPlatform(img *Image, want *ocispec.Platform) error {
	if img.Platform == "" || want == nil {
		return nil
	}
	name := platformName(*want)
	if img.Platform == name || want.Variant == "" && strings.HasPrefix(img.Platform, name+"/") {
		return nil
	}
	return fmt.Errorf("it is for %s, not for %s (choose another with --platform): %w", img.Platform, name, errdefs.ErrNotFound)
}

// platformName is empty where an image does not say what it is for.
func platformName(p ocispec.Platform) string {
	if p.OS == "" || p.Architecture == "" {
		return ""
	}
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}
