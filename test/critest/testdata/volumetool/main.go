// Volumetool does in a container what programs do with volumes: it watches by
// inotify, talks through sockets, and maps huge pages. It also pings itself.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	var err error
	switch args := os.Args[1:]; args[0] {
	case "watch":
		err = watch(args[1:])
	case "serve":
		err = serve(args[1])
	case "call":
		err = call(args[1])
	case "huge":
		err = huge(args[1], args[2])
	case "ping":
		err = ping()
	default:
		err = fmt.Errorf("unknown command %q", args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

var names = map[uint32]string{
	unix.IN_MODIFY: "modify", unix.IN_CLOSE_WRITE: "close_write", unix.IN_ATTRIB: "attrib", unix.IN_CREATE: "create",
	unix.IN_DELETE: "delete", unix.IN_MOVED_FROM: "moved_from", unix.IN_MOVED_TO: "moved_to", unix.IN_DELETE_SELF: "delete_self",
}

// watch prints each event of the paths. A path that begins with "=" is
// that of a file whose content is printed after each event.
func watch(paths []string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	show := ""
	watched := map[int32]string{}
	for _, p := range paths {
		if file, ok := strings.CutPrefix(p, "="); ok {
			show = file
			continue
		}
		wd, err := unix.InotifyAddWatch(fd, p, unix.IN_ALL_EVENTS&^(unix.IN_ACCESS|unix.IN_OPEN|unix.IN_CLOSE_NOWRITE))
		if err != nil {
			return fmt.Errorf("watch %s: %w", p, err)
		}
		watched[int32(wd)] = p
	}
	fmt.Println("watching")
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buffer)
		if err != nil {
			return err
		}
		for b := buffer[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd, mask, size := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
			name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size]), "\x00")
			b = b[unix.SizeofInotifyEvent+size:]
			fmt.Println(watched[wd], names[mask&^unix.IN_ISDIR], name)
			if show != "" {
				content, err := os.ReadFile(show)
				fmt.Printf("reads %q %v\n", content[:min(len(content), 64)], err)
			}
		}
	}
}

func serve(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	fmt.Println("serving")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

func call(path string) error {
	conn, err := net.DialTimeout("unix", path, 5*time.Second)
	if err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	fmt.Printf("answer %s\n", answer)
	return err
}

// huge maps and touches size bytes of a new file.
func huge(path, size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %d bytes: %w", n, err)
	}
	for i := 0; i < n; i += 4096 {
		data[i] = 1
	}
	fmt.Println("touched", n)
	return nil
}

// ping asks this machine whether it is there, without a raw socket, and prints what
// kind of answer comes: 0 is that of an echo.
func ping() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30}); err != nil {
		return err
	}
	echo := []byte{8, 0, 0, 0, 0, 0, 0, 1}
	if err := unix.Sendto(fd, echo, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	answer := make([]byte, 64)
	if _, _, err := unix.Recvfrom(fd, answer, 0); err != nil {
		return err
	}
	fmt.Println("answer", answer[0])
	return nil
}
