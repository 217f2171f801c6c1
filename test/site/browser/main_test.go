package browser

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// suite is what all tests share.
var suite struct {
	// dir is the built site, pictures where screenshots go, or empty.
	dir, pictures string
	// axe is the source of the accessibility checker.
	axe string
	// pages are the paths of all pages.
	pages []string
	// address is where the site is served, below a path, with a slash at its end.
	address string
	// browser is the context of Chromium.
	browser context.Context
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/site/browser:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if err := load(); err != nil {
		return 1, err
	}
	// Below a path of some depth, since the site may not know where it is.
	const prefix = "/somewhere/else/"
	server := httptest.NewServer(http.StripPrefix(prefix, http.FileServer(http.Dir(suite.dir))))
	defer server.Close()
	suite.address = server.URL + prefix

	program, err := exec.LookPath("chromium")
	if err != nil {
		return 1, fmt.Errorf("%w; install it with: make setup-site", err)
	}
	profile, err := os.MkdirTemp("", "dougong-site-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(profile)
	// Its sandbox needs a user other than root; it sees only pages of ours.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.UserDataDir(profile), chromedp.DisableGPU)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	var stop context.CancelFunc
	suite.browser, stop = chromedp.NewContext(allocator)
	defer stop()
	if err := chromedp.Do(suite.browser); err != nil {
		return 1, fmt.Errorf("start %s: %w", program, err)
	}
	code := m.Run()
	return code, chromedp.Cancel(suite.browser)
}

func load() error {
	suite.dir, suite.pictures = os.Getenv("DOUGONG_SITE"), os.Getenv("DOUGONG_SITE_PICTURES")
	node := os.Getenv("DOUGONG_SITE_NODE")
	if suite.dir == "" || node == "" {
		return errors.New("run this by: make test-site")
	}
	axe, err := os.ReadFile(filepath.Join(node, "node_modules/axe-core/axe.min.js"))
	if err != nil {
		return fmt.Errorf("%w; install it with: make test-site", err)
	}
	suite.axe = string(axe)
	err = fs.WalkDir(os.DirFS(suite.dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path.Ext(name) == ".html" {
			suite.pages = append(suite.pages, name)
		}
		return err
	})
	if err == nil && len(suite.pages) < 40 {
		err = fmt.Errorf("only %d pages in %s; build them with: make site", len(suite.pages), suite.dir)
	}
	return err
}
