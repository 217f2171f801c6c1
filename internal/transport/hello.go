package transport

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode"
)

// ProtocolVersion is the version of what is spoken between host and guest.
const ProtocolVersion = 1

const (
	maxHello     = 4 << 10
	maxHelloText = 256
	maxTimings   = 32
)

// ErrHello says that the guest introduced itself in a way that is not agreed.
var ErrHello = errors.New("transport: bad hello")

// Hello is how an agent introduces itself when all its services are up.
type Hello struct {
	// Protocol is the agent's ProtocolVersion.
	Protocol int `json:"protocol"`
	// AgentVersion is the version the agent was built as.
	AgentVersion string `json:"agent_version"`
	// Kernel is the guest kernel's release.
	Kernel string `json:"kernel"`
	// Boot are the steps of the start that were timed, in order.
	Boot []Timing `json:"boot,omitempty"`
}

// Timing is when a step of the guest's start was done.
type Timing struct {
	Step string `json:"step"`
	// Microseconds since the guest's kernel started.
	Microseconds int64 `json:"us"`
}

// Encode returns h as one message.
func (h Hello) Encode() ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode hello: %w", err)
	}
	if len(body) > maxHello {
		return nil, fmt.Errorf("%w: %d bytes", ErrHello, len(body))
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...), nil
}

// SendHello writes h as one message.
func SendHello(w io.Writer, h Hello) error {
	message, err := h.Encode()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	return nil
}

// ReadHello reads what SendHello wrote. The result has the protocol version of
// this end, and its texts are short and printable.
func ReadHello(r io.Reader) (Hello, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return Hello{}, fmt.Errorf("read hello: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxHello {
		return Hello{}, fmt.Errorf("%w: %d bytes", ErrHello, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return Hello{}, fmt.Errorf("read hello: %w", unexpected(err))
	}
	var h Hello
	if err := json.Unmarshal(body, &h); err != nil {
		return Hello{}, fmt.Errorf("%w: %w", ErrHello, err)
	}
	if err := h.validate(); err != nil {
		return Hello{}, err
	}
	return h, nil
}

func (h Hello) validate() error {
	if h.Protocol != ProtocolVersion {
		return fmt.Errorf("%w: the guest speaks protocol version %d, the host %d; rebuild the guest image",
			ErrHello, h.Protocol, ProtocolVersion)
	}
	if len(h.Boot) > maxTimings {
		return fmt.Errorf("%w: %d boot timings", ErrHello, len(h.Boot))
	}
	texts := []string{h.AgentVersion, h.Kernel}
	for _, t := range h.Boot {
		texts = append(texts, t.Step)
	}
	for _, s := range texts {
		if !printable(s) {
			return fmt.Errorf("%w: unprintable or too long text", ErrHello)
		}
	}
	return nil
}

func printable(s string) bool {
	if len(s) > maxHelloText {
		return false
	}
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
