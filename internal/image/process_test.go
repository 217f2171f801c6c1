package image_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/image/imagetest"
	"dougong.dev/dougong/internal/image/reference"
)

// Other processes that pull are this test binary, told by its environment.
const (
	childEnv = "DOUGONG_TEST_PULL" // ROOT REFERENCE
	stopEnv  = "DOUGONG_TEST_STOP" // the step to stop in for good
)

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(childPull(job))
	}
	os.Exit(m.Run())
}

func childPull(job string) int {
	root, text, _ := strings.Cut(job, " ")
	ref, err := reference.Parse(text)
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 2
	}
	s, err := image.Open(root, image.Options{})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 2
	}
	img, err := s.Pull(context.Background(), ref, image.PullOptions{Progress: stopAt(os.Getenv(stopEnv))})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, img.RootFS)
	return 0
}

func stopAt(step string) func(image.Event) {
	return func(e image.Event) {
		if string(e.Step) == step && e.Done > 0 {
			fmt.Fprintln(os.Stdout, "stopped")
			select {}
		}
	}
}

func child(t *testing.T, s *image.Store, ref string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+s.Root()+" "+ref)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestProcessesPullTogether(t *testing.T) {
	reg := newServer(t)
	img := hello(strings.Repeat("some content\n", 50_000))
	for i := range 5 {
		img.Layers = append(img.Layers, imagetest.NewLayer().File(fmt.Sprint("file", i), 0o644, strings.Repeat(fmt.Sprint(i), 1<<20)))
	}
	built := reg.push(t, "x", "latest", img)
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	var mu sync.Mutex
	outputs := map[string]int{}
	for range 6 {
		cmd := child(t, s, reg.host+"/x")
		wg.Go(func() {
			out, err := cmd.Output()
			mu.Lock()
			defer mu.Unlock()
			outputs[string(out)]++
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if len(outputs) != 1 {
		t.Errorf("processes gave different files: %v", outputs)
	}
	if got, want := reg.blobs.Load(), int64(len(built.Layers)+1); got != want {
		t.Errorf("%d blobs were fetched, want each of the %d once", got, want)
	}
	wantContent(t, pull(t, s, reg.host+"/x"), "file4", strings.Repeat("4", 1<<20))
	if found := leftovers(t, s.Root(), "tmp"); len(found) > 0 {
		t.Errorf("left behind: %v", found)
	}
}

// startStopped runs a pull until it stops in a step, and gives its process.
func startStopped(t *testing.T, s *image.Store, ref string, step image.Step) *exec.Cmd {
	t.Helper()
	cmd := child(t, s, ref, stopEnv+"="+string(step))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "stopped\n" {
		t.Fatalf("child said %q, error %v", line, err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

func TestKilledProcess(t *testing.T) {
	for _, step := range []image.Step{image.StepFetch, image.StepUnpack} {
		t.Run(string(step), func(t *testing.T) {
			s := open(t, t.TempDir())
			dir, _ := layout(t, hello(strings.Repeat("x", 1<<20)), "x")
			cmd := startStopped(t, s, "oci:"+dir, step)
			if found := leftovers(t, s.Root(), "tmp"); len(found) == 0 {
				t.Error("process was stopped before it wrote anything")
			}
			open(t, s.Root())
			if found := leftovers(t, s.Root(), "tmp"); len(found) == 0 {
				t.Error("file of a living process was swept away")
			}
			kill(t, cmd)
			if found := leftovers(t, s.Root(), "erofs"); len(found) > 0 {
				t.Errorf("half-made image is visible: %v", found)
			}
			s = open(t, s.Root())
			if found := leftovers(t, s.Root(), "tmp", "locks"); len(found) > 0 {
				t.Errorf("left behind after the next start: %v", found)
			}
			wantContent(t, pull(t, s, "oci:"+dir), "etc/base", "base")
		})
	}
}

// Who waits for a process that dies takes its work over.
func TestWaitForKilled(t *testing.T) {
	s := open(t, t.TempDir())
	dir, _ := layout(t, hello("v1"), "x")
	cmd := startStopped(t, s, "oci:"+dir, image.StepUnpack)
	done := make(chan error, 1)
	waiting := make(chan struct{})
	go func() {
		var once sync.Once
		_, err := s.Pull(context.WithoutCancel(t.Context()), parse(t, "oci:"+dir), image.PullOptions{Progress: func(e image.Event) {
			once.Do(func() { close(waiting) }) // layers are there: the chain's lock is next
		}})
		done <- err
	}()
	<-waiting
	select {
	case err := <-done:
		t.Fatalf("pull ended while another process held the lock: %v", err)
	default:
	}
	kill(t, cmd)
	if err := <-done; err != nil {
		t.Error(err)
	}
	wantContent(t, pull(t, s, "oci:"+dir), "hello", "v1")
}

func TestCancel(t *testing.T) {
	reg := newServer(t)
	reg.push(t, "x", "latest", hello("v1"))
	reached := make(chan struct{}, 8)
	reg.wrap = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				reached <- struct{}{}
				<-r.Context().Done()
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	if _, err := s.Pull(ctx, parse(t, reg.host+"/x"), image.PullOptions{}); err == nil {
		t.Error("cancelled pull gave no error")
	}
	wantEmpty(t, s.Root())
}
