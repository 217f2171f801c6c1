package image_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/image/imagetest"
)

// server is a registry on the loopback interface whose answers can be spoilt.
type server struct {
	*httptest.Server
	host  string
	blobs atomic.Int64 // blobs that were fetched
	// wrap, if not nil, stands before the registry.
	wrap func(http.Handler) http.Handler
}

func newServer(t *testing.T) *server {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	s := &server{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			s.blobs.Add(1)
		}
		h := inner
		if s.wrap != nil {
			h = s.wrap(h)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	s.host = strings.TrimPrefix(s.URL, "http://")
	return s
}

// push puts an image under a repository and tag, without the client library.
func (s *server) push(t *testing.T, repo, tag string, img *imagetest.Image) *imagetest.Built {
	t.Helper()
	b, err := img.Build()
	if err != nil {
		t.Fatal(err)
	}
	for d, blob := range b.Blobs {
		if d != b.Manifest.Digest {
			s.do(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), "application/octet-stream", blob)
		}
	}
	s.do(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, b.Manifest.MediaType, b.Blobs[b.Manifest.Digest])
	return b
}

func (s *server) do(t *testing.T, method, path, mediaType string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

func TestPullRegistry(t *testing.T) {
	reg := newServer(t)
	built := reg.push(t, "team/hello", "v1", hello("v1"))
	s := open(t, t.TempDir())
	ref := reg.host + "/team/hello:v1"
	var events []image.Event
	img, err := s.Pull(t.Context(), parse(t, "docker://"+ref), image.PullOptions{Progress: func(e image.Event) { events = append(events, e) }})
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, img, "hello", "v1")
	if img.Ref != ref || img.ID != built.Config || img.Digest != built.Manifest.Digest {
		t.Errorf("got %+v", img)
	}
	wantEvents(t, events, built)

	n := reg.blobs.Load()
	pull(t, s, ref)
	if reg.blobs.Load() != n {
		t.Error("an image in the store was fetched again")
	}
	if img := pull(t, s, reg.host+"/team/hello@"+built.Manifest.Digest.String()); img.Digest != built.Manifest.Digest {
		t.Errorf("by digest: got %s", img.Digest)
	}
}

func wantEvents(t *testing.T, events []image.Event, built *imagetest.Built) {
	t.Helper()
	last := map[string]image.Event{}
	for _, e := range events {
		key := string(e.Step) + e.Layer.String()
		if e.Done < last[key].Done || e.Total != int64(len(built.Blobs[e.Layer])) {
			t.Errorf("event %+v after %+v", e, last[key])
		}
		last[key] = e
	}
	for _, d := range built.Layers {
		for _, step := range []image.Step{image.StepFetch, image.StepUnpack} {
			if e, ok := last[string(step)+d.String()]; !ok || e.Done != e.Total {
				t.Errorf("%s of %s ended with %+v", step, d, e)
			}
		}
	}
}

func TestPolicies(t *testing.T) {
	reg := newServer(t)
	reg.push(t, "x", "latest", hello("v1"))
	s := open(t, t.TempDir())
	ref := parse(t, reg.host+"/x")
	get := func(p image.Policy) (*image.Image, error) {
		return s.Pull(t.Context(), ref, image.PullOptions{Policy: p})
	}
	if _, err := get(image.PullNever); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("never, empty store: error %v", err)
	}
	first, err := get(image.PullMissing)
	if err != nil {
		t.Fatal(err)
	}
	reg.push(t, "x", "latest", hello("v2"))
	for _, p := range []image.Policy{image.PullMissing, image.PullNever} {
		if img, err := get(p); err != nil || img.ID != first.ID {
			t.Errorf("%s: got %+v, error %v", p, img, err)
		}
	}
	img, err := get(image.PullAlways)
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, img, "hello", "v2")
	if _, err := get("sometimes"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("unknown policy: error %v", err)
	}
}

func TestPlatforms(t *testing.T) {
	reg := newServer(t)
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for _, arch := range []string{"amd64", "arm64", "riscv64"} {
		p := ocispec.Platform{OS: "linux", Architecture: arch}
		img := hello(arch)
		img.Platform = p
		desc := reg.push(t, "multi", arch, img).Manifest
		desc.Platform = &p
		index.Manifests = append(index.Manifests, desc)
	}
	b, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	reg.do(t, http.MethodPut, "/v2/multi/manifests/latest", index.MediaType, b)
	s := open(t, t.TempDir())
	ref := parse(t, reg.host+"/multi")
	for _, arch := range []string{"riscv64", "amd64", "arm64"} {
		img, err := s.Pull(t.Context(), ref, image.PullOptions{Platform: "linux/" + arch})
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, img, "hello", arch)
	}
	for platform, want := range map[string]string{
		"linux/s390x": "only for: linux/amd64, linux/arm64, linux/riscv64",
		"linux":       "OS/ARCH", "a/b/c/d": "OS/ARCH", "/x": "OS/ARCH",
	} {
		_, err := s.Pull(t.Context(), ref, image.PullOptions{Platform: platform, Policy: image.PullAlways})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("platform %q: error %v, want one with %q", platform, err, want)
		}
	}
}

func TestRegistryAuth(t *testing.T) {
	reg := newServer(t)
	reg.push(t, "private", "latest", hello("secret"))
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:pw"))
	reg.wrap = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != want {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	s := open(t, t.TempDir())
	ref := parse(t, reg.host+"/private")
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); !errors.Is(err, errdefs.ErrUnauthenticated) || !strings.Contains(err.Error(), "docker login") {
		t.Errorf("without credentials: error %v", err)
	}
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, reg.host, strings.TrimPrefix(want, "Basic "))
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	wantContent(t, pull(t, s, reg.host+"/private"), "hello", "secret")
}

func TestRegistryErrors(t *testing.T) {
	reg := newServer(t)
	built := reg.push(t, "x", "latest", hello(strings.Repeat("content ", 5000)))
	bad := built.Layers[1]
	spoil := func(change func([]byte) []byte, length int) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, bad.String()) {
					next.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Content-Length", fmt.Sprint(length))
				_, _ = w.Write(change(append([]byte(nil), built.Blobs[bad]...)))
			})
		}
	}
	size := len(built.Blobs[bad])
	tests := map[string]struct {
		ref   string
		wrap  func(http.Handler) http.Handler
		class error
		want  []string
	}{
		"unknown tag":  {ref: "/x:none", class: errdefs.ErrNotFound, want: []string{"no such image"}},
		"unknown repo": {ref: "/none", class: errdefs.ErrNotFound, want: []string{"no such image"}},
		"corrupt layer": {
			ref: "/x", wrap: spoil(func(b []byte) []byte { b[size/2] ^= 1; return b }, size), class: errdefs.ErrDataLoss,
			want: []string{"layer 2 of 2", bad.Encoded()},
		},
		"short layer": {
			ref: "/x", wrap: spoil(func(b []byte) []byte { return b[:size-9] }, size-9), class: errdefs.ErrDataLoss,
			want: []string{"layer 2 of 2", bad.Encoded()},
		},
		"cut connection": {
			ref: "/x", wrap: spoil(func(b []byte) []byte { return b[:size-9] }, size), class: errdefs.ErrUnavailable,
			want: []string{"layer 2 of 2", "cut off"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reg.wrap = test.wrap
			s := open(t, t.TempDir())
			_, err := s.Pull(t.Context(), parse(t, reg.host+test.ref), image.PullOptions{})
			if !errors.Is(err, test.class) {
				t.Fatalf("error %v, want one of class %v", err, test.class)
			}
			for _, part := range append(test.want, reg.host) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %v has no %q", err, part)
				}
			}
			if found := leftovers(t, s.Root(), "erofs", "tmp"); len(found) > 0 {
				t.Errorf("left behind: %v", found)
			}
			if list, err := s.List(); err != nil || len(list) > 0 {
				t.Errorf("bad image is listed: %v, error %v", list, err)
			}
		})
	}
	s := open(t, t.TempDir())
	reg.Close()
	if _, err := s.Pull(t.Context(), parse(t, reg.host+"/x"), image.PullOptions{}); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("registry is down: error %v", err)
	}
}

func TestForeignArtifact(t *testing.T) {
	reg := newServer(t)
	m := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"application/vnd.cncf.helm.config.v1+json",` +
		`"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`
	reg.do(t, http.MethodPut, "/v2/chart/manifests/latest", ocispec.MediaTypeImageManifest, []byte(m))
	s := open(t, t.TempDir())
	if _, err := s.Pull(t.Context(), parse(t, reg.host+"/chart"), image.PullOptions{}); err == nil || !strings.Contains(err.Error(), "no container image") {
		t.Errorf("error %v, want one that says it is no container image", err)
	}
}
