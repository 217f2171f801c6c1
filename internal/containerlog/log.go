// Package containerlog is the log of a container's output: one JSON object a
// line, with the time, the stream and the bytes.
//
// It owns the format. Who writes it (the sandbox process) and who reads it
// (the command line) are not its matter.
package containerlog

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Entry is a piece of output, at most one line.
type Entry struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"`
	// Log is the output; base64 in JSON, since output is bytes, not text.
	Log []byte `json:"log"`
}

// maxLine bounds an entry; longer lines are split.
const maxLine = 16 << 10

// Writer appends the output of one stream. Writers of several streams may
// share a file: each entry is one write.
type Writer struct {
	mu     sync.Mutex
	file   *os.File
	stream string
	part   []byte
	now    func() time.Time
}

// Open appends to the log at path.
func Open(path, stream string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open container log: %w", err)
	}
	return &Writer{file: f, stream: stream, now: time.Now}, nil
}

// Write logs complete lines and keeps the rest for the next call.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, b := range p {
		w.part = append(w.part, b)
		if b != '\n' && len(w.part) < maxLine {
			continue
		}
		if err := w.flush(); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func (w *Writer) flush() error {
	if len(w.part) == 0 {
		return nil
	}
	line, err := json.Marshal(Entry{Time: w.now(), Stream: w.stream, Log: w.part})
	if err != nil {
		return fmt.Errorf("encode log entry: %w", err)
	}
	w.part = w.part[:0]
	if _, err := w.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write container log: %w", err)
	}
	return nil
}

// Close logs an unfinished line and closes the file.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.flush(), w.file.Close())
}

// Reader reads entries from the beginning of a log. At the end of what was
// written so far it returns io.EOF and goes on when there is more.
type Reader struct {
	r    *bufio.Reader
	part []byte
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReader(r)} }

// Next returns the next complete entry.
func (r *Reader) Next() (Entry, error) {
	chunk, err := r.r.ReadBytes('\n')
	r.part = append(r.part, chunk...)
	if err != nil {
		return Entry{}, err
	}
	line := r.part
	r.part = nil
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, fmt.Errorf("container log is damaged: %w", err)
	}
	return e, nil
}
