package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	// fileSize is the size of the file that is read in guests.
	fileSize = 256 << 20
	// fileName is its name in the image and in the shared directory.
	fileName = "dougong-bench.data"
	// streamSize is how much goes through a stream.
	streamSize = 64 << 20
	// shareTarget is where the shared directory is in the container.
	shareTarget = "/dougong-bench-share"
)

// bulk is a container for measuring throughput.
type bulk struct {
	lab *lab
	*resident
}

func (l *lab) startBulk(ctx context.Context) (*bulk, error) {
	ref, err := l.writeBulkImage(ctx)
	if err != nil {
		return nil, err
	}
	// Privileged, for it empties the guest's caches.
	c, err := l.start(ctx, "bench-bulk", ref, "--privileged", "-v", l.path("share")+":"+shareTarget+":ro")
	if err != nil {
		return nil, err
	}
	return &bulk{lab: l, resident: c}, nil
}

// measure takes one reading of every kind.
func (b *bulk) measure(ctx context.Context, out *series) error {
	steps := []struct {
		row  string
		take func(context.Context) (float64, error)
	}{
		{rowReadImage, func(ctx context.Context) (float64, error) { return b.read(ctx, "/"+fileName) }},
		{rowReadShare, func(ctx context.Context) (float64, error) { return b.read(ctx, shareTarget+"/"+fileName) }},
		{rowStdin, b.stdin},
		{rowStdout, b.stdout},
		{rowBothStreams, b.both},
	}
	for _, s := range steps {
		rate, err := s.take(ctx)
		if err != nil {
			return fmt.Errorf("measure %s: %w", s.row, err)
		}
		out.add(s.row, rate)
	}
	return nil
}

func (b *bulk) exec(ctx context.Context, flags []string, args ...string) *exec.Cmd {
	return b.lab.dougong(ctx, append(append(append([]string{"exec"}, flags...), b.name), args...)...)
}

// readScript reads a file after the guest's caches were emptied, and prints
// the seconds since boot before and after. Not every dd has a clock.
const readScript = `sync; echo 3 > /proc/sys/vm/drop_caches || exit
read begin rest < /proc/uptime
dd bs=1M of=/dev/null if="$0" 2> /dev/null || exit
read end rest < /proc/uptime
echo "$begin $end"`

// read reads a file with nothing cached in the guest, and returns the rate
// that was measured there.
func (b *bulk) read(ctx context.Context, path string) (float64, error) {
	cmd := b.exec(ctx, []string{"--privileged"}, "sh", "-c", readScript, path)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return 0, failure(cmd, err, said.String())
	}
	seconds, err := elapsed(out.String())
	if err != nil {
		return 0, err
	}
	return fileSize / seconds / megabyte, nil
}

// elapsed returns the seconds between the two points in time of a line.
func elapsed(line string) (float64, error) {
	fields := strings.Fields(line)
	if len(fields) != 2 {
		return 0, fmt.Errorf("%.100q is not two points in time", line)
	}
	begin, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		return 0, fmt.Errorf("time before reading: %w", err)
	}
	end, err := strconv.ParseFloat(fields[1], 64)
	if err != nil {
		return 0, fmt.Errorf("time after reading: %w", err)
	}
	if !(end > begin) {
		return 0, fmt.Errorf("reading began at %v and ended at %v", begin, end)
	}
	return end - begin, nil
}

// stdin sends bytes into the guest. The clock runs from the time when the
// process there reads until it has ended.
func (b *bulk) stdin(ctx context.Context) (float64, error) {
	cmd := b.exec(ctx, []string{"-i"}, "sh", "-c", "echo up; exec cat > /dev/null")
	return stream(cmd, "up\n", streamSize, 0)
}

// stdout takes bytes out of the guest, timed from the first to the last.
func (b *bulk) stdout(ctx context.Context) (float64, error) {
	cmd := b.exec(ctx, nil, "sh", "-c", "echo up; exec dd if=/dev/zero bs=64k count="+strconv.Itoa(streamSize>>16)+" 2>/dev/null")
	return stream(cmd, "up\n", 0, streamSize)
}

// both sends bytes in and takes the same out.
func (b *bulk) both(ctx context.Context) (float64, error) {
	cmd := b.exec(ctx, []string{"-i"}, "sh", "-c", "echo up; exec cat")
	return stream(cmd, "up\n", streamSize, streamSize)
}

// stream runs a command that greets, takes so many bytes in and gives so many
// out, and returns the rate in MB/s from the greeting to its end. Bytes that go
// both ways count once.
func stream(cmd *exec.Cmd, greeting string, in, out int64) (float64, error) {
	var said bytes.Buffer
	cmd.Stderr = &said
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	var stdin io.WriteCloser
	if in > 0 {
		if stdin, err = cmd.StdinPipe(); err != nil {
			return 0, err
		}
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	rate, err := pump(stdin, stdout, greeting, in, out, cmd.Wait)
	if err != nil {
		return 0, failure(cmd, err, said.String())
	}
	return rate, nil
}

// pump does the work of stream; wait waits for the end of the process.
func pump(stdin io.WriteCloser, stdout io.Reader, greeting string, in, out int64, wait func() error) (float64, error) {
	r := bufio.NewReaderSize(stdout, 1<<16)
	word, err := r.ReadString('\n')
	if err == nil && word != greeting {
		err = fmt.Errorf("it greets with %.100q", word)
	}
	begin := time.Now()
	if stdin != nil {
		go func() {
			if err == nil {
				_, _ = io.CopyN(stdin, zeros{}, in)
			}
			_ = stdin.Close()
		}()
	}
	n, readErr := io.Copy(io.Discard, r)
	if err := errors.Join(err, readErr, wait()); err != nil {
		return 0, err
	}
	if n != out {
		return 0, fmt.Errorf("%d bytes came out, not %d", n, out)
	}
	return float64(max(in, out)) / time.Since(begin).Seconds() / megabyte, nil
}

// zeros reads as endless zero bytes.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
