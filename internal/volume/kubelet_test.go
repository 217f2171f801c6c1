package volume

import "testing"

func TestKindOf(t *testing.T) {
	for path, want := range map[string]Kind{
		"/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~configmap/app":             Published,
		"/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~secret/app/":               Published,
		"/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~projected/kube-api-access": Published,
		"/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~downward-api/info":         Published,
		"/pods/0a1b/volumes/kubernetes.io~empty-dir/x":                               Empty,
		"/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~empty-dir/x/below":         Other,
		"/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~csi/pv/mount":              Other,
		"/var/lib/kubelet/pods/0a1b/volume-subpaths/app/c/0":                         Other,
		"/data/volumes/kubernetes.io~secret/app":                                     Other,
		"pods/0a1b/volumes/kubernetes.io~secret/app":                                 Other,
		"": Other,
	} {
		if got := KindOf(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

func TestEmptyOfSubPath(t *testing.T) {
	for path, want := range map[string]string{
		"/var/lib/kubelet/pods/0a1b/volume-subpaths/cache/app/0": "/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~empty-dir/cache",
		"/pods/0a1b/volume-subpaths/cache/app/12":                "/pods/0a1b/volumes/kubernetes.io~empty-dir/cache",
		"/var/lib/kubelet/pods/0a1b/volume-subpaths/cache/app/x": "",
		"/var/lib/kubelet/pods/0a1b/volume-subpaths/cache/0":     "",
		"/volume-subpaths/cache/app/0":                           "",
	} {
		if got := EmptyOfSubPath(path); got != want {
			t.Errorf("%s gives %q, want %q", path, got, want)
		}
	}
}
