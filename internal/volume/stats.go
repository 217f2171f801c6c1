package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/socket"
)

// Stats tell how full a file system is, in bytes and files. They are the
// guest's word.
type Stats struct {
	Capacity   uint64 `json:"capacity"`
	Used       uint64 `json:"used"`
	Available  uint64 `json:"available"`
	Inodes     uint64 `json:"inodes"`
	InodesUsed uint64 `json:"inodesUsed"`
}

// statsTime bounds the answer to a question.
const statsTime = time.Minute

// Served answers what is asked about a direct volume that is mounted.
type Served struct {
	// Stats tells how full it is.
	Stats func(context.Context) (Stats, error)
	// Grow makes it as large as its source has become.
	Grow func(context.Context) error
}

// question is what somebody wants.
type question struct {
	// Grow comes before the figures.
	Grow bool `json:"grow,omitempty"`
}

// answer is what a sandbox says.
type answer struct {
	Stats Stats  `json:"stats"`
	Error string `json:"error,omitempty"`
}

func statsSocket(dir, path string) string {
	return strings.TrimSuffix(directFile(dir, path), ".json") + ".sock"
}

// Serve answers those who ask about a direct volume until stop is called. The
// socket is root's, as the directory is.
func Serve(dir, path string, served Served) (stop func(), err error) {
	name := statsSocket(dir, path)
	// One that was left by a sandbox that was killed is nobody's: whoever has the
	// volume to write has its lock.
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("serve figures of the volume: %w", err)
	}
	l, err := socket.Listen(filepath.Dir(name), filepath.Base(name))
	if err != nil {
		return nil, fmt.Errorf("serve figures of the volume: %w", err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answerOne(conn, served)
		}
	}()
	return func() {
		_ = l.Close()
		_ = os.Remove(name)
	}, nil
}

func answerOne(conn net.Conn, served Served) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), statsTime)
	defer cancel()
	_ = conn.SetDeadline(time.Now().Add(statsTime))
	var q question
	var a answer
	err := json.NewDecoder(io.LimitReader(conn, 4<<10)).Decode(&q)
	if err == nil && q.Grow {
		err = served.Grow(ctx)
	}
	if err == nil {
		a.Stats, err = served.Stats(ctx)
	}
	if err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(a)
}

// AskStats asks the sandbox that has a direct volume mounted for its figures.
func AskStats(dir, path string) (Stats, error) { return ask(dir, path, question{}) }

// AskGrow has it grow the volume with its source, and returns the figures then.
func AskGrow(dir, path string) (Stats, error) { return ask(dir, path, question{Grow: true}) }

func ask(dir, path string, q question) (Stats, error) {
	name := statsSocket(dir, path)
	conn, err := socket.Dial(filepath.Dir(name), filepath.Base(name))
	if err != nil {
		return Stats{}, fmt.Errorf("volume %s is mounted in no sandbox: %w", path, errdefs.ErrNotFound)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * statsTime))
	var a answer
	err = json.NewEncoder(conn).Encode(q)
	if err == nil {
		err = json.NewDecoder(io.LimitReader(conn, 64<<10)).Decode(&a)
	}
	if err != nil {
		return Stats{}, fmt.Errorf("volume %s: %w", path, err)
	}
	if a.Error != "" {
		return Stats{}, fmt.Errorf("volume %s: %s", path, a.Error)
	}
	return a.Stats, nil
}
