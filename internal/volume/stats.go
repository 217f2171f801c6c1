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
const statsTime = 10 * time.Second

// answer is what a sandbox says.
type answer struct {
	Stats Stats  `json:"stats"`
	Error string `json:"error,omitempty"`
}

func statsSocket(dir, path string) string {
	return strings.TrimSuffix(directFile(dir, path), ".json") + ".sock"
}

// ServeStats answers those who ask for the figures of a direct volume until stop
// is called. The socket is root's, as the directory is.
func ServeStats(dir, path string, stats func(context.Context) (Stats, error)) (stop func(), err error) {
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
			go answerOne(conn, stats)
		}
	}()
	return func() {
		_ = l.Close()
		_ = os.Remove(name)
	}, nil
}

func answerOne(conn net.Conn, stats func(context.Context) (Stats, error)) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), statsTime)
	defer cancel()
	_ = conn.SetDeadline(time.Now().Add(statsTime))
	var a answer
	var err error
	if a.Stats, err = stats(ctx); err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(a)
}

// AskStats asks the sandbox that has a direct volume mounted.
func AskStats(dir, path string) (Stats, error) {
	name := statsSocket(dir, path)
	conn, err := socket.Dial(filepath.Dir(name), filepath.Base(name))
	if err != nil {
		return Stats{}, fmt.Errorf("volume %s is mounted in no sandbox: %w", path, errdefs.ErrNotFound)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * statsTime))
	var a answer
	if err := json.NewDecoder(io.LimitReader(conn, 64<<10)).Decode(&a); err != nil {
		return Stats{}, fmt.Errorf("figures of volume %s: %w", path, err)
	}
	if a.Error != "" {
		return Stats{}, fmt.Errorf("figures of volume %s: %s", path, a.Error)
	}
	return a.Stats, nil
}
