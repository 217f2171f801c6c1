// Package site tests the built documentation site: its links, its HTML, its
// feed, the command blocks of the install guides, and each page in a browser.
//
// It owns what is true of every page. It must not start containers: what the
// guides say is run by test/vm.
package site
