package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestSwitches turns the theme and the language on every page, there and back.
func TestSwitches(t *testing.T) {
	for _, page := range suite.pages {
		if strings.HasPrefix(page, "zh-cn/") {
			continue
		}
		t.Run(page, func(t *testing.T) {
			b := newTab(t, 1366, 900, "light")
			b.open(page)
			b.do(chromedp.Click("button.theme"))
			if !isDark(b.background()) {
				t.Errorf("the button leaves the background %s", b.background())
			}
			b.picture("turned-dark-" + page)
			b.turnLanguage("zh-cn/"+page, "zh-CN")
			// The choice goes along to the next page, against the system's.
			if !isDark(b.background()) {
				t.Errorf("the choice is forgotten: %s", b.background())
			}
			b.do(chromedp.Click("button.theme"))
			if isDark(b.background()) {
				t.Errorf("the button leaves the background %s", b.background())
			}
			b.turnLanguage(page, "en")
			b.wantNoProblems()
		})
	}
}

// turnLanguage follows the switch of the language and wants to be there.
func (b *tab) turnLanguage(page, language string) {
	b.t.Helper()
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click("a.language")); err != nil {
		b.t.Fatal(err)
	}
	b.do(chromedp.WaitReady("main"))
	if got := b.path(); got != page {
		b.t.Errorf("the switch leads to %s, want %s", got, page)
	}
	if got := eval[string](b, "document.documentElement.lang"); got != language {
		b.t.Errorf("language %q, want %q", got, language)
	}
}
