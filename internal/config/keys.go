package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Key is one key of the configuration.
type Key struct {
	// Name is section.key.
	Name string
	// Default is its value without a file, in the file's notation.
	Default string
	// Doc says in full sentences what it does.
	Doc string
}

// Keys lists every key, in the order of the documentation.
func Keys() []Key {
	var keys []Key
	c := reflect.ValueOf(Default())
	for i := range c.NumField() {
		section, prefix := c.Field(i), c.Type().Field(i).Tag.Get("toml")
		for j := range section.NumField() {
			field := section.Type().Field(j)
			keys = append(keys, Key{
				Name:    prefix + "." + field.Tag.Get("toml"),
				Default: defaultText(section.Field(j)),
				Doc:     field.Tag.Get("doc"),
			})
		}
	}
	return keys
}

// defaultText writes a default as it would stand in the file.
func defaultText(v reflect.Value) string {
	data, err := toml.Marshal(map[string]any{"v": v.Interface()})
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(strings.TrimPrefix(string(data), "v = "))
	return strings.ReplaceAll(text, "'", `"`)
}

// sectionOf splits a key's name.
func sectionOf(name string) (section, key string) {
	section, key, _ = strings.Cut(name, ".")
	return section, key
}

// Example is a configuration file with every key at its default, commented
// out, each under the sentence that explains it.
func Example() string {
	var b strings.Builder
	b.WriteString("# Configuration of Dougong. Every key is optional; these are the defaults.\n")
	last := ""
	for _, k := range Keys() {
		section, key := sectionOf(k.Name)
		if section != last {
			fmt.Fprintf(&b, "\n[%s]\n", section)
			last = section
		}
		fmt.Fprintf(&b, "# %s\n#%s = %s\n", k.Doc, key, k.Default)
	}
	return b.String()
}

// Page is docs/configuration.md.
func Page() string {
	var b strings.Builder
	fmt.Fprintf(&b, pageHead, DefaultPath)
	last := ""
	for _, k := range Keys() {
		section, key := sectionOf(k.Name)
		if section != last {
			fmt.Fprintf(&b, "\n## [%s]\n\n| key | default | meaning |\n|---|---|---|\n", section)
			last = section
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", key, k.Default, strings.ReplaceAll(k.Doc, "|", `\|`))
	}
	b.WriteString(pageAnnotations)
	for _, a := range Annotations() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", a.Name, a.Doc)
	}
	b.WriteString(pageExample + Example() + "```\n")
	return b.String()
}

const pageHead = `# Configuration

Generated from internal/config by ` + "`go generate ./internal/config`" + `; a test holds page and program together.

Dougong reads ` + "`%s`" + `, or the file that ` + "`--config`" + ` or the environment
variable ` + "`DOUGONG_CONFIG`" + ` names. The first may be missing; the second may not. The
format is [TOML](https://toml.io). Every key has a default, so an empty file is a complete one. Reading is strict: a key
that does not exist is an error that names file, line and the nearest key that does.

Flags of ` + "`dougong run`" + ` go before the file, and the file goes before the defaults.
`

const pageAnnotations = `
## Annotations

A container's OCI spec can change part of this for its own sandbox. Any other annotation that begins with
` + "`" + AnnotationPrefix + "`" + ` is refused, so that a misspelt one is noticed.

| annotation | meaning |
|---|---|
`

const pageExample = `
## The file with all defaults

` + "```toml\n"
