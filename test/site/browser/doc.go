// Package browser opens each page of the built site in Chromium, at the width
// of a phone and of a desk, in light and in dark, and looks at what a reader
// would meet: accessibility, overflow, what fails to load, and the switches.
//
// It owns what only a browser can tell. Links and HTML are test/site's.
package browser
