package supervise

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kdev.test/cluster/driver/internal/procs"
)

// ErrNoSupervisor is returned when nobody listens: the cluster is down or broken.
var ErrNoSupervisor = errors.New("the cluster's supervisor doesn't run")

// Client talks to the supervisor of one cluster.
type Client struct {
	dir, socket string
}

// NewClient names the socket; nothing is opened yet.
func NewClient(dir, socket string) *Client { return &Client{dir: dir, socket: socket} }

func (c *Client) dial() (*net.UnixConn, error) {
	dir, err := os.Open(c.dir)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoSupervisor, err)
	}
	defer dir.Close()
	path := filepath.Join(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), c.socket)
	connection, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoSupervisor, err)
	}
	return connection, nil
}

func (c *Client) ask(request Request) (Reply, error) {
	connection, err := c.dial()
	if err != nil {
		return Reply{}, err
	}
	defer connection.Close()
	if err := json.NewEncoder(connection).Encode(request); err != nil {
		return Reply{}, err
	}
	reply := Reply{}
	if err := json.NewDecoder(connection).Decode(&reply); err != nil {
		return Reply{}, fmt.Errorf("the supervisor gave no answer to %s: %w", request.Op, err)
	}
	if reply.Error != "" {
		return reply, errors.New(reply.Error)
	}
	return reply, nil
}

// Start runs a component and returns its identity.
func (c *Client) Start(spec Spec) (procs.ID, error) {
	reply, err := c.ask(Request{Op: "start", Spec: &spec})
	return reply.Process, err
}

// StartAgain runs a stopped component as before.
func (c *Client) StartAgain(name string) error {
	_, err := c.ask(Request{Op: "start", Name: name})
	return err
}

// Stop ends a component with SIGTERM and, after the grace time, SIGKILL.
func (c *Client) Stop(name string, grace time.Duration) error {
	_, err := c.ask(Request{Op: "stop", Name: name, GraceMillis: int(grace.Milliseconds())})
	return err
}

// List returns the state of all components.
func (c *Client) List() ([]Component, error) {
	reply, err := c.ask(Request{Op: "list"})
	return reply.Components, err
}

// Shutdown kills everything below the supervisor, and then the supervisor ends.
func (c *Client) Shutdown() error {
	_, err := c.ask(Request{Op: "shutdown"})
	return err
}

// Run executes a session with this process's standard streams, hands on the signals
// that this process gets, and returns the command's exit code.
func (c *Client) Run(session Session) (int, error) {
	connection, err := c.dial()
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	line, err := json.Marshal(Request{Op: "run", Session: &session})
	if err != nil {
		return 0, err
	}
	streams, err := standardStreams()
	if err != nil {
		return 0, err
	}
	line = append(line, '\n')
	// One message with the rights, the rest as a stream: a long environment
	// doesn't fit one message everywhere.
	n, _, err := connection.WriteMsgUnix(line[:1], unix.UnixRights(streams...), nil)
	if err != nil {
		return 0, err
	}
	if _, err := connection.Write(line[n:]); err != nil {
		return 0, err
	}
	go forwardSignals(connection)

	reply := Reply{}
	answer, err := bufio.NewReader(connection).ReadBytes('\n')
	if err != nil {
		return 0, fmt.Errorf("the supervisor went away while the command ran: %w", err)
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return 0, err
	}
	if reply.Error != "" {
		return 0, errors.New(reply.Error)
	}
	return reply.Exit, nil
}

// standardStreams are descriptors 0 to 2, with /dev/null for one that is closed.
func standardStreams() ([]int, error) {
	streams := []int{0, 1, 2}
	for i := range streams {
		var stat syscall.Stat_t
		if syscall.Fstat(i, &stat) == nil {
			continue
		}
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		streams[i] = int(null.Fd())
	}
	return streams, nil
}

// forwardSignals sends what a terminal sends to a whole process group to the
// command's group, and everything else to the command alone.
func forwardSignals(connection *net.UnixConn) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP,
		syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT)
	lines := json.NewEncoder(connection)
	for received := range signals {
		number, _ := received.(syscall.Signal)
		group := number == syscall.SIGINT || number == syscall.SIGQUIT || number == syscall.SIGHUP
		_ = lines.Encode(Signal{Number: int(number), Group: group})
	}
}
