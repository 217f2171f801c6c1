package transport

import (
	"bytes"
	"io"
	"reflect"
	"testing"
)

func TestQuestionsComeAsTheyWere(t *testing.T) {
	var line bytes.Buffer
	want := []Question{{ID: 7, Message: []byte("short")}, {ID: 1<<32 - 1, TCP: true, Message: bytes.Repeat([]byte("x"), MaxMessage)}, {Message: []byte{}}}
	for _, q := range want {
		if err := WriteQuestion(&line, q); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range want {
		got, err := ReadQuestion(&line)
		if err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("%d of %d bytes comes as %d of %d, %v", q.ID, len(q.Message), got.ID, len(got.Message), err)
		}
	}
	if err := WriteQuestion(&line, Question{Message: make([]byte, MaxMessage+1)}); err == nil || line.Len() > 0 {
		t.Errorf("what is no message is written: %v", err)
	}
}

func FuzzReadQuestion(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 1, 0, 2, 'a', 'b'})
	f.Add([]byte{0, 0, 0, 1, 0, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		q, err := ReadQuestion(r)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := WriteQuestion(&again, q); err != nil {
			t.Fatal(err)
		}
		used := len(data) - r.Len()
		// Only the byte that says how it came has more than one reading.
		if got := again.Bytes(); len(got) != used || !bytes.Equal(got[5:], data[5:used]) {
			t.Errorf("%x becomes %x", data[:used], got)
		}
		if _, err := io.ReadAll(r); err != nil {
			t.Error(err)
		}
	})
}
