package browser

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// screens are the ways in which each page is looked at.
var screens = []struct {
	name          string
	width, height int64
	scheme        string
}{
	{"phone-light", 390, 844, "light"},
	{"phone-dark", 390, 844, "dark"},
	{"desk-light", 1366, 900, "light"},
	{"desk-dark", 1366, 900, "dark"},
}

// TestPages opens each page on each screen. It must fit, load all it names and
// nothing else, follow the reader's scheme, and have no accessibility problem.
func TestPages(t *testing.T) {
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			t.Parallel()
			for _, page := range suite.pages {
				t.Run(page, func(t *testing.T) {
					b := newTab(t, screen.width, screen.height, screen.scheme)
					b.open(page)
					b.checkPage(screen.scheme)
					// Pages of commands are all of one form.
					if !strings.Contains(page, "docs/commands/dougong-") {
						b.picture(screen.name + "-" + page)
					}
					b.wantNoProblems()
				})
			}
		})
	}
}

func (b *tab) checkPage(scheme string) {
	b.t.Helper()
	if over := eval[int](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
		b.t.Errorf("it is %d pixels wider than the screen", over)
	}
	// A picture further down is loaded when it comes near.
	const broken = `(async () => {
		const all = [...document.images];
		all.forEach(i => i.loading = "eager");
		await Promise.all(all.map(i => i.decode().catch(() => {})));
		return all.filter(i => !i.naturalWidth).map(i => i.src).join(" ");
	})()`
	if images := eval[string](b, broken); images != "" {
		b.t.Errorf("pictures that do not show: %s", images)
	}
	if dark := isDark(b.background()); dark != (scheme == "dark") {
		b.t.Errorf("background %s in the %s scheme", b.background(), scheme)
	}
	for _, v := range b.violations() {
		b.t.Error(v)
	}
}

// isDark says whether a colour as "rgb(1, 2, 3)" is.
func isDark(colour string) bool {
	var r, g, b int
	_, _ = fmt.Sscanf(colour, "rgb(%d, %d, %d)", &r, &g, &b)
	return r+g+b < 3*128
}

// violations are what axe says against the page.
func (b *tab) violations() []string {
	b.t.Helper()
	const run = `axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(
		r.violations.map(v => v.id + ": " + v.help + ": " + v.nodes.slice(0, 3).map(n => n.html).join(" | "))))`
	b.do(chromedp.Evaluate[chromedp.Void](suite.axe + "; 0"))
	var all []string
	if err := json.Unmarshal([]byte(eval[string](b, run)), &all); err != nil {
		b.t.Fatal(err)
	}
	return all
}

// TestViolationsAreFound looks at a page that is bad on purpose.
func TestViolationsAreFound(t *testing.T) {
	b := newTab(t, 800, 600, "light")
	b.open("index.html")
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("main").innerHTML = '<img src="icon.svg"><p style="color: #bbb; background: #fff">pale</p>'; 0`))
	found := strings.Join(b.violations(), "\n")
	for _, want := range []string{"image-alt", "color-contrast"} {
		if !strings.Contains(found, want) {
			t.Errorf("%s is not found: %s", want, found)
		}
	}
}

// TestWithoutScripts shows pages to a reader who runs none: all is there, but
// for the button that would do nothing.
func TestWithoutScripts(t *testing.T) {
	for _, page := range []string{"index.html", "docs/install.html", "zh-cn/community/index.html"} {
		b := newTab(t, 390, 844, "dark")
		call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		b.open(page)
		call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: false})
		if !isDark(b.background()) {
			t.Errorf("%s does not follow the scheme", page)
		}
		if shown := eval[bool](b, `document.querySelector("button.theme").checkVisibility()`); shown {
			t.Errorf("%s shows a button that does nothing", page)
		}
		if text := eval[string](b, `document.querySelector("main").innerText`); len(text) < 200 {
			t.Errorf("%s shows only %q", page, text)
		}
	}
}
