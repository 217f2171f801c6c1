package pool

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is a kind of machine: those of one kind can stand for each other.
type Kind struct {
	// Key is a digest of all that makes a kind what it is.
	Key string `json:"key"`
	// Description tells people the same.
	Description string `json:"description"`
	// NetNS is the inode of the network namespace that the machine must be in, 0
	// for one without a network.
	NetNS uint64 `json:"netns,omitempty"`
	// Recipe says how to make one, in the words of who makes it.
	Recipe json.RawMessage `json:"recipe"`
}

// Limits bound what a pool takes.
type Limits struct {
	// Size is how many machines wait.
	Size int `json:"size"`
	// MemoryMiB is how much of the host's memory they may take together, counting
	// shared pages in part.
	MemoryMiB int `json:"memoryMiB"`
	// Idle is how long a keeper stays that nobody asks for anything; 0 is for
	// ever.
	Idle time.Duration `json:"idle"`
}

// Operations of a keeper.
const (
	OpClaim = "claim"
	// OpWant notes a start that could not claim, since there was no keeper.
	OpWant   = "want"
	OpStatus = "status"
	OpFill   = "fill"
	OpStop   = "stop"
)

// Request is what a keeper is asked for, one on each connection.
type Request struct {
	Op string `json:"op"`
	// Scope is the installation; a keeper serves one.
	Scope string `json:"scope"`
	// Limits are the asker's, which the keeper takes over. Of a status they say
	// nothing.
	Limits Limits `json:"limits"`
	Kind   *Kind  `json:"kind,omitempty"`
}

// Response is a keeper's answer. With a PID come the files that the machine is
// held by.
type Response struct {
	// Error says why the keeper does not do what it was asked for.
	Error string `json:"error,omitempty"`
	// Miss says why there is no machine.
	Miss   string  `json:"miss,omitempty"`
	PID    int     `json:"pid,omitempty"`
	Status *Status `json:"status,omitempty"`
}

// Status is what is known of a pool.
type Status struct {
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"`
	Limits  Limits    `json:"limits"`
	Waiting []Waiting `json:"waiting"`
	// MemoryMiB is what the waiting machines take of the host's memory.
	MemoryMiB int `json:"memoryMiB"`
	// Making says that a machine is being made.
	Making bool `json:"making"`
	// Hits and Misses count claims since the keeper started.
	Hits   int `json:"hits"`
	Misses int `json:"misses"`
	// Made counts the machines that were ready to be claimed, Dropped those that
	// nobody took, Failed the attempts that came to nothing.
	Made    int `json:"made"`
	Dropped int `json:"dropped"`
	Failed  int `json:"failed"`
	// Trouble is why no more machines are made at present, empty when there is
	// no reason.
	Trouble string `json:"trouble,omitempty"`
}

// Waiting is a machine that waits.
type Waiting struct {
	PID         int       `json:"pid"`
	Kind        string    `json:"kind"`
	Description string    `json:"description"`
	Since       time.Time `json:"since"`
	MemoryMiB   int       `json:"memoryMiB"`
}

// Bounds of a message. Both ends are root's; they keep a slip from becoming a
// fault.
const (
	maxMessage = 1 << 20
	maxFiles   = 16
)

var errMessage = errors.New("not a message of the pool")

// Send writes a message, with files that travel on its first byte. The files
// stay the caller's.
func Send(c *net.UnixConn, message any, files ...*os.File) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	data := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	rights, err := rightsOf(files)
	if err != nil {
		return fmt.Errorf("send files: %w", err)
	}
	n, _, err := c.WriteMsgUnix(data, rights, nil)
	if err == nil && n < len(data) {
		_, err = c.Write(data[n:])
	}
	return err
}

// rightsOf avoids File.Fd, which would make what is sent blocking.
func rightsOf(files []*os.File) ([]byte, error) {
	if len(files) == 0 {
		return nil, nil
	}
	var fds []int
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return nil, err
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return nil, err
		}
	}
	return unix.UnixRights(fds...), nil
}

// Receive reads a message and the files that came with it, which are then the
// caller's.
func Receive(c *net.UnixConn, message any) ([]*os.File, error) {
	var head [4]byte
	rights := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, rightsN, _, _, err := c.ReadMsgUnix(head[:], rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	files, err := parseRights(rights[:rightsN])
	if err == nil {
		err = receiveBody(c, head, n, message)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func receiveBody(c io.Reader, head [4]byte, have int, message any) error {
	if _, err := io.ReadFull(c, head[have:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMessage {
		return fmt.Errorf("%w: %d bytes", errMessage, size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, message); err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	return nil
}

func parseRights(rights []byte) ([]*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMessage, err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("%w: %w", errMessage, err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "handle"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
