package containerd

import (
	"bufio"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// stream collects the topics of events.
type stream struct {
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []string
}

// events begins to listen. It waits until the daemon sends.
func (d *daemon) events(t *testing.T) *stream {
	t.Helper()
	s := &stream{cmd: d.command("events")}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	go func() {
		for scan := bufio.NewScanner(out); scan.Scan(); {
			s.mu.Lock()
			s.lines = append(s.lines, scan.Text())
			s.mu.Unlock()
		}
	}()
	eventually(t, "the daemon sends events", func() bool {
		d.ok(t, "namespace", "label", "default", "probe=1")
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.lines) > 0
	})
	return s
}

// tasks returns the events of tasks: topic and, of an exit, the status.
func (s *stream) tasks(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var topics []string
	for _, line := range s.lines {
		if !strings.Contains(line, `"container_id":"`+id+`"`) {
			continue
		}
		for field := range strings.FieldsSeq(line) {
			topic, ok := strings.CutPrefix(field, "/tasks/")
			if !ok {
				continue
			}
			if topic == "exit" && strings.Contains(line, `"id":"exec1"`) {
				topic = "exec-exit"
			}
			topics = append(topics, topic)
		}
	}
	return topics
}
