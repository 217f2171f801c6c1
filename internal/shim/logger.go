package shim

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Times of a logging program.
const (
	loggerReady = 10 * time.Second
	loggerEnd   = 10 * time.Second
)

// logger is a program that takes the output of a process (binary:// URIs), as
// containerd runs it: output on descriptors 3 and 4, and 5 to say that it is
// ready.
type logger struct {
	cmd  *exec.Cmd
	done chan struct{}
	once sync.Once
}

// startLogger runs the program of a URI. The key and first value of each query
// parameter are its arguments. It returns the ends to write output to; closing
// both ends the program.
func startLogger(u *url.URL, namespace, id string) (stdout, stderr io.WriteCloser, err error) {
	var files [6]*os.File // read and write ends: stdout, stderr, ready
	defer func() {
		for i, f := range files {
			// The writing ends of output are the caller's, if all went well.
			if f != nil && (err != nil || i != 1 && i != 3) {
				_ = f.Close()
			}
		}
	}()
	for i := 0; i < len(files); i += 2 {
		if files[i], files[i+1], err = os.Pipe(); err != nil {
			return nil, nil, fmt.Errorf("start logging program: %w", err)
		}
	}
	l := &logger{cmd: exec.Command(u.Path, loggerArgs(u)...), done: make(chan struct{})}
	l.cmd.Env = []string{"CONTAINER_ID=" + id, "CONTAINER_NAMESPACE=" + namespace}
	l.cmd.ExtraFiles = []*os.File{files[0], files[2], files[5]}
	if err := l.cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start logging program: %w", err)
	}
	_ = files[5].Close()
	files[5] = nil
	go l.wait()
	if err := l.awaitReady(files[4], u.Scheme == "binary-v2"); err != nil {
		_ = l.cmd.Process.Kill()
		return nil, nil, err
	}
	out := &loggerOutput{WriteCloser: files[1], logger: l}
	errs := &loggerOutput{WriteCloser: files[3], logger: l}
	out.other, errs.other = errs, out
	return out, errs, nil
}

func loggerArgs(u *url.URL) []string {
	var args []string
	query := u.Query()
	for _, key := range slices.Sorted(maps.Keys(query)) {
		args = append(args, key)
		if values := query[key]; len(values) > 0 {
			args = append(args, values[0])
		}
	}
	return args
}

func (l *logger) wait() {
	if err := l.cmd.Wait(); err != nil {
		slog.Warn("logging program", "path", l.cmd.Path, "error", err)
	}
	close(l.done)
}

// awaitReady waits until the program closes its end. A program of the second
// version writes a byte before, so that its crash can be told apart.
func (l *logger) awaitReady(ready *os.File, mustWrite bool) error {
	_ = ready.SetReadDeadline(time.Now().Add(loggerReady))
	n, err := ready.Read(make([]byte, 1))
	if err != nil && err != io.EOF {
		return fmt.Errorf("logging program %s does not get ready: %w", l.cmd.Path, err)
	}
	if mustWrite && n == 0 {
		return fmt.Errorf("logging program %s ended before it was ready", l.cmd.Path)
	}
	return nil
}

// end lets the program write what it has, then asks and at last forces it to
// end. Nobody waits for that: there are programs that themselves wait for the
// exit of the container. One that outlives this process sees the end of its
// input.
func (l *logger) end() {
	l.once.Do(func() {
		for _, sig := range []unix.Signal{0, unix.SIGTERM, unix.SIGKILL} {
			if sig != 0 {
				_ = l.cmd.Process.Signal(sig)
			}
			select {
			case <-l.done:
				return
			case <-time.After(loggerEnd):
			}
		}
	})
}

// loggerOutput is one of the two ends; the last to be closed ends the program.
type loggerOutput struct {
	io.WriteCloser
	logger *logger
	other  *loggerOutput

	mu     sync.Mutex
	closed bool
}

// Close closes this end.
func (o *loggerOutput) Close() error {
	o.mu.Lock()
	again := o.closed
	o.closed = true
	o.mu.Unlock()
	if again {
		return nil
	}
	err := o.WriteCloser.Close()
	o.other.mu.Lock()
	last := o.other.closed
	o.other.mu.Unlock()
	if last {
		go o.logger.end()
	}
	return err
}
