package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func TestReferencePage(t *testing.T) {
	root := &cobra.Command{Use: "tool", Short: "Do things"}
	root.PersistentFlags().String("config", "", "configuration `file`")
	sub := &cobra.Command{
		Use: "cut [flags] THING", Short: "Cut a|b, *hard*", Long: "Cut it.\n\n  deep", Example: "  tool cut wood\n",
		Run: func(*cobra.Command, []string) {},
	}
	sub.Flags().IntP("depth", "d", 3, "how deep_ly to cut")
	sub.Flags().Bool("secret", false, "not for people")
	_ = sub.Flags().MarkHidden("secret")
	hidden := &cobra.Command{Use: "debug", Hidden: true, Run: func(*cobra.Command, []string) {}}
	root.AddCommand(sub, hidden)

	var names []string
	for _, c := range reachable(root) {
		names = append(names, c.CommandPath())
	}
	if diff := cmp.Diff([]string{"tool", "tool cut"}, names); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	const want = "# tool cut\n\nCut a\\|b, \\*hard\\*.\n\n```\ntool cut [flags] THING\n```\n" +
		"\n```text\nCut it.\n\n  deep\n```\n\n## Examples\n\n```\n  tool cut wood\n```\n" +
		"\n## Flags\n\n| flag | default | meaning |\n|---|---|---|\n" +
		"| `-d, --depth int` | `3` | how deep\\_ly to cut |\n| `-h, --help` |  | help for cut |\n" +
		"\n## Flags of every command\n\n| flag | default | meaning |\n|---|---|---|\n| `--config file` |  | configuration file |\n" +
		"\nPart of [tool](tool.md).\n"
	if diff := cmp.Diff(want, string(referencePage(sub))); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if page := string(referencePage(root)); !strings.Contains(page, "| [cut](tool-cut.md) | Cut a\\|b, \\*hard\\* |") || strings.Contains(page, "debug") {
		t.Errorf("page of the root:\n%s", page)
	}
}

// TestReferenceOfAll writes the pages of the whole command.
func TestReferenceOfAll(t *testing.T) {
	dir := t.TempDir()
	root, _ := newRootCommand()
	root.SetArgs([]string{"man", "--markdown", dir})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	for name, words := range map[string]string{
		"dougong.md":               "[run](dougong-run.md)",
		"dougong-run.md":           "`-d, --detach`",
		"dougong-template-list.md": "Part of [dougong template](dougong-template.md)",
	} {
		page, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(page), words) {
			t.Errorf("%s: %v, want %q in it:\n%s", name, err, words, page)
		}
	}
	root.SetArgs([]string{"man", "--markdown", filepath.Join(dir, "none")})
	if err := root.Execute(); err == nil || !strings.Contains(err.Error(), `write the reference of "dougong"`) {
		t.Errorf("a directory that is not there gives %v", err)
	}
}
