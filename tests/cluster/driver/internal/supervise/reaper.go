package supervise

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// reaper starts processes and collects everything that dies, whether started here
// or inherited as a subreaper. The lock makes start and registration one step, so
// that a process which dies at once is still reported to whom it belongs.
type reaper struct {
	lock    sync.Mutex
	waiting map[int]chan syscall.WaitStatus
	spawns  chan spawn
}

type spawn struct {
	argv   []string
	attr   *syscall.ProcAttr
	result chan spawned
}

type spawned struct {
	pid  int
	exit chan syscall.WaitStatus
	err  error
}

func newReaper() *reaper {
	return &reaper{waiting: map[int]chan syscall.WaitStatus{}, spawns: make(chan spawn)}
}

// serveSpawns must run on the main thread for the life of the process: a parent
// death signal is sent when the *thread* that forked ends, and only this one never does.
func (r *reaper) serveSpawns() {
	for request := range r.spawns {
		r.lock.Lock()
		pid, err := syscall.ForkExec(request.argv[0], request.argv, request.attr)
		result := spawned{pid: pid, err: err}
		if err == nil {
			result.exit = make(chan syscall.WaitStatus, 1)
			r.waiting[pid] = result.exit
		}
		r.lock.Unlock()
		request.result <- result
	}
}

func (r *reaper) start(argv []string, attr *syscall.ProcAttr) (int, chan syscall.WaitStatus, error) {
	request := spawn{argv: argv, attr: attr, result: make(chan spawned, 1)}
	r.spawns <- request
	result := <-request.result
	return result.pid, result.exit, result.err
}

// reap collects the dead until the process ends.
func (r *reaper) reap() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	for range signals {
		r.collect()
	}
}

func (r *reaper) collect() {
	r.lock.Lock()
	defer r.lock.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if exit, ours := r.waiting[pid]; ours {
			delete(r.waiting, pid)
			exit <- status
		}
	}
}

// exitCode is what a shell would show in $?.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
