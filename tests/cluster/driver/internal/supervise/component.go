package supervise

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"kdev.test/cluster/driver/internal/procs"
)

// component is a supervised process and how to start it again.
type component struct {
	spec    Spec
	process procs.ID
	running bool
	stopped bool
	exit    int
	// ended is closed when the present process is over.
	ended chan struct{}
}

var namespaceFlags = map[string]uintptr{
	"net": syscall.CLONE_NEWNET,
	"mnt": syscall.CLONE_NEWNS,
	"uts": syscall.CLONE_NEWUTS,
}

// start runs a component, waits for its announcement if it makes one, and watches
// for its end.
func (s *server) start(spec Spec) (procs.ID, error) {
	s.lock.Lock()
	if known, exists := s.components[spec.Name]; exists && known.running {
		s.lock.Unlock()
		return procs.ID{}, fmt.Errorf("%s runs already as process %d", spec.Name, known.process.PID)
	}
	s.lock.Unlock()

	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return procs.ID{}, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return procs.ID{}, err
	}
	defer null.Close()
	files := []uintptr{null.Fd(), log.Fd(), log.Fd()}
	announced, announce, err := os.Pipe()
	if err != nil {
		return procs.ID{}, err
	}
	defer announced.Close()
	if spec.Announces {
		files = append(files, announce.Fd())
	}

	attr := &syscall.ProcAttr{
		Env:   append(os.Environ(), spec.Env...),
		Files: files,
		// The whole cluster ends with its supervisor rather than living on half.
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	for _, kind := range spec.Isolate {
		attr.Sys.Cloneflags |= namespaceFlags[kind]
	}
	argv := spec.Argv
	if spec.Within != 0 {
		argv = append([]string{s.self, "enter", "--target", strconv.Itoa(spec.Within), "--"}, argv...)
	}
	pid, exit, err := s.reaper.start(argv, attr)
	announce.Close()
	if err != nil {
		return procs.ID{}, fmt.Errorf("%s can't be started: %w", argv[0], err)
	}
	identity, err := procs.Identify(pid)
	if err != nil {
		return procs.ID{}, fmt.Errorf("%s ended at once, see %s", spec.Name, spec.Log)
	}
	running := &component{spec: spec, process: identity, running: true, ended: make(chan struct{})}
	s.lock.Lock()
	s.components[spec.Name] = running
	s.lock.Unlock()
	go s.watch(running, exit)

	if spec.Announces {
		if n, _ := announced.Read(make([]byte, 1)); n == 0 {
			return procs.ID{}, fmt.Errorf("%s gave up before it was ready, see %s", spec.Name, spec.Log)
		}
	}
	return identity, nil
}

func (s *server) watch(running *component, exit chan syscall.WaitStatus) {
	status := <-exit
	s.lock.Lock()
	running.running = false
	running.exit = exitCode(status)
	s.lock.Unlock()
	close(running.ended)
	fmt.Fprintf(os.Stderr, "%s ended with status %d\n", running.spec.Name, exitCode(status))
}

// restart starts a component as it was started the last time.
func (s *server) restart(name string) (procs.ID, error) {
	s.lock.Lock()
	known, exists := s.components[name]
	s.lock.Unlock()
	if !exists {
		return procs.ID{}, fmt.Errorf("there is no component %q", name)
	}
	return s.start(known.spec)
}

// stop ends a component, first politely.
func (s *server) stop(name string, grace time.Duration) error {
	s.lock.Lock()
	known, exists := s.components[name]
	if exists && known.running {
		known.stopped = true
	}
	s.lock.Unlock()
	if !exists {
		return fmt.Errorf("there is no component %q", name)
	}
	if grace > 0 {
		_ = syscall.Kill(known.process.PID, syscall.SIGTERM)
		select {
		case <-known.ended:
			return nil
		case <-time.After(grace):
		}
	}
	known.process.Kill()
	select {
	case <-known.ended:
		return nil
	case <-time.After(10 * time.Second):
		return errors.New(name + " doesn't even end on SIGKILL")
	}
}

func (s *server) list() []Component {
	s.lock.Lock()
	defer s.lock.Unlock()
	var list []Component
	for _, known := range s.components {
		list = append(list, Component{
			Name: known.spec.Name, Process: known.process, Running: known.running,
			Exit: known.exit, Log: known.spec.Log, Stopped: known.stopped,
		})
	}
	return list
}
