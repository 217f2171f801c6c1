package qmp

import (
	"encoding/json"
	"fmt"
	"io"
)

// maxMessage bounds one message, in bytes. The largest reply known is that of
// query-qmp-schema with about 210 kB.
const maxMessage = 16 << 20

// message is any line QEMU sends: greeting, reply or event.
type message struct {
	Greeting  *Greeting       `json:"QMP"`
	ID        json.RawMessage `json:"id"`
	Return    json.RawMessage `json:"return"`
	Error     *wireError      `json:"error"`
	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp wireTime        `json:"timestamp"`
}

type wireError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

type wireTime struct {
	Seconds      int64 `json:"seconds"`
	Microseconds int64 `json:"microseconds"`
}

// toError copies the bounded part of an error reply.
func (e *wireError) toError() *Error {
	clip := func(s string) string { return string([]byte(s[:min(len(s), maxDesc)])) }
	return &Error{Class: clip(e.Class), Desc: clip(e.Desc)}
}

// reader takes messages off a stream and refuses those over a limit. A
// json.Decoder reads ahead, so what it holds is at most twice the limit.
type reader struct {
	dec   *json.Decoder
	meter *meter
	limit int64
}

func newReader(r io.Reader, limit int64) *reader {
	m := &meter{r: r}
	return &reader{dec: json.NewDecoder(m), meter: m, limit: limit}
}

// next returns the next message. Its raw parts belong to the caller.
func (r *reader) next() (*message, error) {
	r.meter.left = r.limit
	var m message
	if err := r.dec.Decode(&m); err != nil {
		return nil, err
	}
	return &m, nil
}

// meter is a reader that fails after left bytes, until left is set again.
type meter struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, fmt.Errorf("message exceeds the limit of %d bytes", int64(maxMessage))
	}
	n, err := m.r.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	return n, err
}
