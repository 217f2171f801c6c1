package oci

import (
	"strconv"
	"strings"
	"unicode"
)

// checkUser holds a user against the forms "user", "user:group", with names or
// numbers. Whether it exists is for the guest to say. Empty means root.
func checkUser(user string) error {
	if user == "" {
		return nil
	}
	name, group, both := strings.Cut(user, ":")
	for _, part := range []string{name, group} {
		if strings.ContainsFunc(part, func(r rune) bool { return r == ':' || r == '/' || unicode.IsSpace(r) || unicode.IsControl(r) }) {
			return invalid("user %q is not of the form USER or USER:GROUP", user)
		}
		if err := checkID(part); err != nil {
			return invalid("user %q: the number %s is above 2147483647", user, part)
		}
	}
	if name == "" || both && group == "" {
		return invalid("user %q is not of the form USER or USER:GROUP", user)
	}
	return nil
}

// checkID refuses numbers that are no ids; names pass.
func checkID(part string) error {
	if part == "" || strings.Trim(part, "0123456789") != "" {
		return nil
	}
	_, err := strconv.ParseInt(part, 10, 32)
	return err
}
