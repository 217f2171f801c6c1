package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// reachable lists a command and those below it that people are shown.
func reachable(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			all = append(all, reachable(sub)...)
		}
	}
	return all
}

// referenceFile names the page of a command.
func referenceFile(c *cobra.Command) string {
	return strings.ReplaceAll(c.CommandPath(), " ", "-") + ".md"
}

// referencePage is what the command's help says, as a page of Markdown.
func referencePage(c *cobra.Command) []byte {
	c.InitDefaultHelpFlag()
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n%s.\n", c.CommandPath(), strings.TrimSuffix(escapeMarkdown(c.Short), "."))
	if c.Runnable() {
		fmt.Fprintf(&b, "\n```\n%s\n```\n", c.UseLine())
	}
	// Long texts are set for a terminal, with lists and examples indented.
	if c.Long != "" {
		fmt.Fprintf(&b, "\n```text\n%s\n```\n", c.Long)
	}
	if c.Example != "" {
		fmt.Fprintf(&b, "\n## Examples\n\n```\n%s\n```\n", strings.TrimRight(c.Example, "\n"))
	}
	writeSubcommands(&b, c)
	writeFlags(&b, "Flags", c.NonInheritedFlags())
	writeFlags(&b, "Flags of every command", c.InheritedFlags())
	if c.HasParent() {
		fmt.Fprintf(&b, "\nPart of [%s](%s).\n", c.Parent().CommandPath(), referenceFile(c.Parent()))
	}
	return b.Bytes()
}

func writeSubcommands(b *bytes.Buffer, c *cobra.Command) {
	var rows []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			rows = append(rows, fmt.Sprintf("| [%s](%s) | %s |\n", sub.Name(), referenceFile(sub), escapeMarkdown(sub.Short)))
		}
	}
	if len(rows) > 0 {
		fmt.Fprintf(b, "\n## Commands\n\n| command | what it does |\n|---|---|\n%s", strings.Join(rows, ""))
	}
}

func writeFlags(b *bytes.Buffer, title string, flags *pflag.FlagSet) {
	var rows []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			rows = append(rows, flagRow(f))
		}
	})
	if len(rows) > 0 {
		fmt.Fprintf(b, "\n## %s\n\n| flag | default | meaning |\n|---|---|---|\n%s", title, strings.Join(rows, ""))
	}
}

func flagRow(f *pflag.Flag) string {
	value, usage := pflag.UnquoteUsage(f)
	name := strings.TrimSpace("--" + f.Name + " " + value)
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	var byDefault string
	switch f.DefValue {
	case "", "false", "[]", "0":
	default:
		byDefault = "`" + f.DefValue + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s |\n", escapePipes(name), escapePipes(byDefault), escapeMarkdown(usage))
}

// escapePipes keeps a text from ending a cell of a table.
func escapePipes(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// escapeMarkdown keeps a plain text as it is.
func escapeMarkdown(s string) string {
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "\n", " ").Replace(s)
}
