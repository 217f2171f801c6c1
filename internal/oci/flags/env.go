package flags

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseEnv reads one -e: KEY=VALUE, or KEY alone, whose value lookup knows
// (os.LookupEnv). KEY alone stays KEY when it is unknown, which takes the
// image's variable of that name away.
func ParseEnv(s string, lookup func(string) (string, bool)) (string, error) {
	key, _, set := strings.Cut(s, "=")
	if key == "" || strings.ContainsRune(s, 0) {
		return "", invalid("environment variable %q is not KEY or KEY=VALUE", s)
	}
	if set {
		return s, nil
	}
	if value, ok := lookup(key); ok {
		return key + "=" + value, nil
	}
	return s, nil
}

// ParseEnvFile reads an environment file: one KEY=VALUE or KEY on a line, taken
// literally, with empty lines and lines starting with # left out. KEY alone
// takes lookup's value, and nothing when there is none.
func ParseEnvFile(name string, content []byte, lookup func(string) (string, bool)) ([]string, error) {
	if !utf8.Valid(content) {
		return nil, invalid("environment file %s is not UTF-8", name)
	}
	var out []string
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(string(content), "\ufeff")) {
		number++
		line = strings.TrimLeftFunc(strings.TrimRight(line, "\r\n"), unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, set := strings.Cut(line, "=")
		if key == "" || strings.ContainsFunc(key, unicode.IsSpace) || strings.ContainsRune(line, 0) {
			return nil, invalid("environment file %s, line %d: %q is not KEY=VALUE", name, number, line)
		}
		if set {
			out = append(out, line)
		} else if value, ok := lookup(key); ok {
			out = append(out, key+"="+value)
		}
	}
	return out, nil
}

// ParseLabel reads KEY or KEY=VALUE.
func ParseLabel(s string) (key, value string, err error) {
	key, value, _ = strings.Cut(s, "=")
	if strings.TrimSpace(key) == "" || strings.ContainsRune(s, 0) {
		return "", "", invalid("label %q is not KEY=VALUE", s)
	}
	return key, value, nil
}
