package sandbox

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/network"
	"dougong.dev/dougong/internal/transport"
)

const (
	// maxQuestions bounds the questions of a guest that are being answered.
	maxQuestions = 64
	// maxResolvConf bounds what is read of a file that a container may write to.
	maxResolvConf = 64 << 10
	resolvConf    = "/etc/resolv.conf"
)

// resolverFile is the host's file that a container has as its resolv.conf, ""
// for none.
func resolverFile(bundle string, host *specs.Spec) string {
	for _, m := range host.Mounts {
		if m.Destination != resolvConf {
			continue
		}
		if filepath.IsAbs(m.Source) {
			return m.Source
		}
		return filepath.Join(bundle, m.Source)
	}
	return ""
}

// namesResolver reports whether a resolv.conf names the name server of a network
// namespace.
func namesResolver(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	host, _, _ := strings.Cut(network.ResolverAddress, ":")
	lines := bufio.NewScanner(io.LimitReader(f, maxResolvConf))
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == "nameserver" && words[1] == host {
			return true
		}
	}
	return false
}

// offerResolver has the guest reach the name server of the network namespace
// once a container is told to ask there.
func (s *Sandbox) offerResolver(ctx context.Context) {
	if s.network == nil || !s.wantsResolver() {
		return
	}
	s.resolving.Lock()
	defer s.resolving.Unlock()
	if s.hasResolver {
		return
	}
	line, err := s.client.OpenResolver(ctx)
	if err != nil {
		slog.WarnContext(ctx, "the name server of the network is out of the guest's reach", "sandbox", s.opts.ID, "error", err)
		return
	}
	s.hasResolver = true
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { s.serveResolver(ctx, line) })
	s.releases.push(func() {
		cancel()
		_ = line.Close()
		serving.Wait()
	})
}

// wantsResolver reports whether any container is told to ask there.
func (s *Sandbox) wantsResolver() bool {
	s.mu.Lock()
	var files []string
	for _, c := range s.containers {
		if c.resolver != "" {
			files = append(files, c.resolver)
		}
	}
	s.mu.Unlock()
	return slices.ContainsFunc(files, namesResolver)
}

// serveResolver answers the guest's questions until the line ends. They go to
// one address, whatever they say.
func (s *Sandbox) serveResolver(ctx context.Context, line net.Conn) {
	var asking sync.WaitGroup
	defer asking.Wait()
	var writing sync.Mutex
	slots := make(chan struct{}, maxQuestions)
	for {
		q, err := transport.ReadQuestion(line)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, io.EOF) {
				slog.Debug("questions of the guest", "sandbox", s.opts.ID, "error", err)
			}
			return
		}
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			answer, err := s.network.namespace.Ask(ctx, q.TCP, q.Message)
			if err != nil {
				slog.Debug("question of the guest", "sandbox", s.opts.ID, "error", err)
				return
			}
			writing.Lock()
			defer writing.Unlock()
			if err := transport.WriteQuestion(line, transport.Question{ID: q.ID, TCP: q.TCP, Message: answer}); err != nil {
				slog.Debug("answer the guest", "sandbox", s.opts.ID, "error", err)
			}
		})
	}
}
