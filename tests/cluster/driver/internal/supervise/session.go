package supervise

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// run starts a session's command, hands signals on to it and answers with its exit
// code. When the client goes away before the command does, nobody is left who could
// look after the command: it is killed, as it would be with its parent's terminal.
func (s *server) run(session *Session, files []int, lines *bufio.Reader, answer *json.Encoder) {
	defer func() {
		for _, file := range files {
			_ = syscall.Close(file)
		}
	}()
	if session == nil || len(files) != 3 {
		_ = answer.Encode(Reply{Error: "a session needs a command and three streams"})
		return
	}
	groups := make([]string, len(session.Groups))
	for i, group := range session.Groups {
		groups[i] = strconv.Itoa(group)
	}
	argv := append([]string{
		s.self, "enter",
		"--target", strconv.Itoa(session.Within),
		"--uid", strconv.Itoa(session.UID),
		"--gid", strconv.Itoa(session.GID),
		"--groups", strings.Join(groups, ","),
		"--dir", session.Dir,
		"--",
	}, session.Argv...)
	streams := make([]uintptr, len(files))
	for i, file := range files {
		streams[i] = uintptr(file)
	}
	pid, exit, err := s.reaper.start(argv, &syscall.ProcAttr{
		Env:   session.Env,
		Files: streams,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		_ = answer.Encode(Reply{Error: err.Error()})
		return
	}
	// The supervisor must not be one of those who hold a pipe open.
	for _, file := range files {
		_ = syscall.Close(file)
	}
	files = nil

	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			signal := Signal{}
			if json.Unmarshal(line, &signal) == nil {
				deliver(pid, signal)
			}
		}
	}()
	select {
	case status := <-exit:
		_ = answer.Encode(Reply{Ended: true, Exit: exitCode(status)})
	case <-gone:
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		fmt.Fprintf(os.Stderr, "session %v: its client went away, killed\n", session.Argv)
		<-exit
	}
}

func deliver(pid int, signal Signal) {
	if signal.Group {
		pid = -pid
	}
	_ = syscall.Kill(pid, syscall.Signal(signal.Number))
}
