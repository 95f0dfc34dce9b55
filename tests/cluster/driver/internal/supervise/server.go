package supervise

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kdev.test/cluster/driver/internal/procs"
)

type server struct {
	self       string
	reaper     *reaper
	lock       sync.Mutex
	components map[string]*component
}

// Serve listens on the socket in the given directory until a shutdown is ordered.
// It must be called on the main thread. ready is called when commands are heard.
func Serve(dir, socket string, ready func()) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming a subreaper: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	_ = os.Remove(socket)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return err
	}
	s := &server{self: self, reaper: newReaper(), components: map[string]*component{}}
	go s.reaper.reap()
	go s.accept(listener)
	ready()
	s.reaper.serveSpawns()
	return nil
}

func (s *server) accept(listener *net.UnixListener) {
	for {
		connection, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		go s.serve(connection)
	}
}

func (s *server) serve(connection *net.UnixConn) {
	defer connection.Close()
	request, files, lines, err := receive(connection)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bad request:", err)
		return
	}
	answer := json.NewEncoder(connection)
	switch request.Op {
	case "start":
		var process procs.ID
		if request.Spec != nil {
			process, err = s.start(*request.Spec)
		} else {
			process, err = s.restart(request.Name)
		}
		_ = answer.Encode(Reply{Process: process, Error: text(err)})
	case "stop":
		err = s.stop(request.Name, time.Duration(request.GraceMillis)*time.Millisecond)
		_ = answer.Encode(Reply{Error: text(err)})
	case "list":
		_ = answer.Encode(Reply{Components: s.list()})
	case "run":
		s.run(request.Session, files, lines, answer)
	case "shutdown":
		left := s.killAll(10 * time.Second)
		_ = answer.Encode(Reply{Error: left})
		os.Exit(0)
	default:
		_ = answer.Encode(Reply{Error: "unknown operation " + request.Op})
	}
}

// receive reads the request's line and the descriptors that came with its first byte.
func receive(connection *net.UnixConn) (*Request, []int, *bufio.Reader, error) {
	first := make([]byte, 64*1024)
	rights := make([]byte, unix.CmsgSpace(3*4))
	n, rightsLen, _, _, err := connection.ReadMsgUnix(first, rights)
	if err != nil {
		return nil, nil, nil, err
	}
	var files []int
	messages, err := unix.ParseSocketControlMessage(rights[:rightsLen])
	if err != nil {
		return nil, nil, nil, err
	}
	for _, message := range messages {
		received, err := unix.ParseUnixRights(&message)
		if err != nil {
			return nil, nil, nil, err
		}
		for _, file := range received {
			unix.CloseOnExec(file)
		}
		files = append(files, received...)
	}
	lines := bufio.NewReader(&prefixed{head: first[:n], rest: connection})
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return nil, files, nil, err
	}
	request := &Request{}
	return request, files, lines, json.Unmarshal(line, request)
}

// prefixed reads what was already taken from a connection before the connection.
type prefixed struct {
	head []byte
	rest *net.UnixConn
}

func (p *prefixed) Read(buffer []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(buffer, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.rest.Read(buffer)
}

// killAll ends every descendant, also those that are forked meanwhile, and says
// what is left after the time is up.
func (s *server) killAll(limit time.Duration) string {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		descendants := procs.Descendants(os.Getpid())
		if len(descendants) == 0 {
			return ""
		}
		for _, process := range descendants {
			process.Kill()
		}
		s.reaper.collect()
		// A dying process with much memory takes a moment, and there is nothing to
		// be woken by: a grandchild's end is news for its own parent only.
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Sprintf("%d processes don't end on SIGKILL", len(procs.Descendants(os.Getpid())))
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
