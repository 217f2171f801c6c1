package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dougong.dev/dougong/test/guide"
)

// TestGuides runs the command blocks of the documentation that are marked for
// it, page by page in one directory, with what they install in a place of
// their own.
func TestGuides(t *testing.T) {
	in := install(t)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := guide.Blocks(string(text))
		if err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		for _, b := range blocks {
			if b.Mark.Kind == guide.Run {
				in.runBlock(page, b)
				ran++
			}
		}
	}
	if ran == 0 {
		t.Error("no block was run: this test looks in the wrong place")
	}
}

// runBlock runs a block in the repository's directory as a shell would that
// stops at the first failure.
func (in *installation) runBlock(page string, b guide.Block) {
	in.t.Helper()
	// The configuration is that of the test, but for what the guide has made.
	in.configure(`vm.kernel=""`, `vm.initrd=""`, "storage.root="+quote(in.path("storage")), `runtime.shim=""`)
	destination := in.path("destination")
	// No registry is asked: their busybox is one that is here.
	cmd := exec.Command("sh", "-euxc", strings.ReplaceAll(b.Text, "docker.io/library/busybox", busybox()))
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "DESTDIR="+destination, "DOUGONG_CONFIG="+in.config,
		"PATH="+filepath.Join(destination, "usr/local/bin")+":"+os.Getenv("PATH"))
	if r := in.finishAs(cmd, strings.NewReader(""), []string{page}); r.code != 0 {
		in.t.Errorf("%s:%d: %v", page, b.Line, r)
	}
}
