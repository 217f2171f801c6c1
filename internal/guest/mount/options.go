package mount

import (
	"strings"

	"golang.org/x/sys/unix"
)

// options are mount(8) style options in the form of mount(2).
type options struct {
	flags       uintptr
	propagation uintptr
	data        string
}

type flag struct {
	clear bool
	flag  uintptr
}

var flags = map[string]flag{
	"defaults":      {},
	"ro":            {flag: unix.MS_RDONLY},
	"rw":            {clear: true, flag: unix.MS_RDONLY},
	"nosuid":        {flag: unix.MS_NOSUID},
	"suid":          {clear: true, flag: unix.MS_NOSUID},
	"nodev":         {flag: unix.MS_NODEV},
	"dev":           {clear: true, flag: unix.MS_NODEV},
	"noexec":        {flag: unix.MS_NOEXEC},
	"exec":          {clear: true, flag: unix.MS_NOEXEC},
	"sync":          {flag: unix.MS_SYNCHRONOUS},
	"async":         {clear: true, flag: unix.MS_SYNCHRONOUS},
	"dirsync":       {flag: unix.MS_DIRSYNC},
	"noatime":       {flag: unix.MS_NOATIME},
	"atime":         {clear: true, flag: unix.MS_NOATIME},
	"nodiratime":    {flag: unix.MS_NODIRATIME},
	"relatime":      {flag: unix.MS_RELATIME},
	"strictatime":   {flag: unix.MS_STRICTATIME},
	"nosymfollow":   {flag: unix.MS_NOSYMFOLLOW},
	"bind":          {flag: unix.MS_BIND},
	"rbind":         {flag: unix.MS_BIND | unix.MS_REC},
	"nostrictatime": {clear: true, flag: unix.MS_STRICTATIME},
}

var propagations = map[string]uintptr{
	"private":     unix.MS_PRIVATE,
	"rprivate":    unix.MS_PRIVATE | unix.MS_REC,
	"shared":      unix.MS_SHARED,
	"rshared":     unix.MS_SHARED | unix.MS_REC,
	"slave":       unix.MS_SLAVE,
	"rslave":      unix.MS_SLAVE | unix.MS_REC,
	"unbindable":  unix.MS_UNBINDABLE,
	"runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// parse tells flags by name; everything else is for the file system.
func parse(names []string) options {
	var o options
	var data []string
	for _, name := range names {
		f, known := flags[name]
		p, propagates := propagations[name]
		switch {
		case propagates:
			o.propagation = p
		case !known:
			data = append(data, name)
		case f.clear:
			o.flags &^= f.flag
		default:
			o.flags |= f.flag
		}
	}
	o.data = strings.Join(data, ",")
	return o
}
