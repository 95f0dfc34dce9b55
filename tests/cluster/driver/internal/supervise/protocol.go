// Package supervise runs the process that is the parent of everything in a cluster.
//
// It is a child subreaper (prctl(2)): containers' shims and daemons that leave their
// parents become its children, are found as such when the cluster goes down, and are
// reaped when they end. PID 1 of a container often reaps nothing.
//
// Commands come as one JSON line per connection over a Unix socket that only root may open.
package supervise

import "kdev.test/cluster/driver/internal/procs"

// Spec says how to start a component, and is remembered to start it again.
type Spec struct {
	Name string
	Argv []string
	// Env are variables added to the supervisor's own.
	Env []string
	// Log is the file that both output streams are appended to.
	Log string
	// Isolate gives the process new namespaces: any of "net", "mnt", "uts".
	Isolate []string
	// Within is the keeper whose namespaces the process enters; zero for none.
	Within int
	// Announces says that the process closes descriptor 3 with a byte written when
	// it is ready; the start is answered only then.
	Announces bool
}

// Session is a command that somebody waits for at a terminal or in a test.
type Session struct {
	Argv   []string
	Env    []string
	Dir    string
	Within int
	UID    int
	GID    int
	Groups []int
}

// Request is the first line of a connection. A session's request carries the three
// standard streams as SCM_RIGHTS.
type Request struct {
	// Op is one of "start", "stop", "list", "run", "shutdown".
	Op      string
	Spec    *Spec    `json:",omitempty"`
	Session *Session `json:",omitempty"`
	// Name is the component for "stop" and, without a Spec, for "start".
	Name string `json:",omitempty"`
	// GraceMillis is how long "stop" waits after SIGTERM before SIGKILL.
	GraceMillis int `json:",omitempty"`
}

// Reply is a line of the answer. A session gets two: when it runs and when it ended.
type Reply struct {
	Error      string      `json:",omitempty"`
	Process    procs.ID    `json:",omitzero"`
	Components []Component `json:",omitempty"`
	// Ended and Exit are set when a session is over. As in a shell, Exit is 128
	// plus the signal's number for a process that a signal ended.
	Ended bool `json:",omitempty"`
	Exit  int  `json:",omitempty"`
}

// Signal is a line that the client of a running session sends.
type Signal struct {
	Number int
	// Group asks for the whole process group, as a terminal's Ctrl-C does.
	Group bool
}

// Component is the state of one supervised process.
type Component struct {
	Name    string
	Process procs.ID
	Running bool
	// Exit is the exit status of one that no longer runs.
	Exit int
	Log  string
	// Stopped tells an ordered end from a crash.
	Stopped bool
}
