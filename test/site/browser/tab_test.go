package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// pageTimeout is the longest that a page may take, in a browser on a machine
// that is busy with other things.
const pageTimeout = 90 * time.Second

// tab is a tab of the browser that remembers what went wrong in it.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string
}

// newTab opens a tab as a reader has it who prefers a colour scheme.
func newTab(t *testing.T, width, height int64, scheme string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(suite.browser)
	t.Cleanup(cancel)
	// The tab is made with a context that lasts; the browser ends with it else.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(ctx, pageTimeout)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, runtime.Enable, cdp.Empty{})
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	return b
}

// listen notes exceptions, messages of errors, and requests that fail or leave
// the site.
func (b *tab) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.note("exception: %s", e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.note("console: %s", e.Args[0].Value)
		}
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, suite.address) && !strings.HasPrefix(e.Request.URL, "data:") {
			b.note("it asks for %s", e.Request.URL)
		}
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			b.note("%s: status %d", e.Response.URL, e.Response.Status)
		}
	}
}

func (b *tab) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

// call gives the tab a command of the protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// open shows a page.
func (b *tab) open(page string) {
	b.t.Helper()
	b.do(chromedp.Navigate(suite.address+page), chromedp.WaitReady("main"))
}

// eval is what an expression in the page gives; promises are waited for.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// path is that of the page that is shown, within the site.
func (b *tab) path() string {
	b.t.Helper()
	u, err := url.Parse(eval[string](b, "location.href"))
	if err != nil {
		b.t.Fatal(err)
	}
	u.Fragment = ""
	name := strings.TrimPrefix(u.String(), suite.address)
	// The server shows index.html as its directory.
	if name == "" || strings.HasSuffix(name, "/") {
		name += "index.html"
	}
	return name
}

// background is the colour behind the text.
func (b *tab) background() string {
	b.t.Helper()
	return eval[string](b, "getComputedStyle(document.body).backgroundColor")
}

// picture keeps a picture of the whole page, if pictures are wanted.
func (b *tab) picture(name string) {
	b.t.Helper()
	if suite.pictures == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	file := filepath.Join(suite.pictures, strings.ReplaceAll(name, "/", "_")+".png")
	if err := os.MkdirAll(suite.pictures, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// wantNoProblems fails for all that was noted.
func (b *tab) wantNoProblems() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Error(p)
	}
}
