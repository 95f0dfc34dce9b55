// Package procs reads /proc: which process is meant, which namespaces it is in,
// whose child it is. Processes are only ever ended by an identity read here.
package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ID is a process that can't be mistaken for a later one with the same number.
type ID struct {
	PID int
	// Start is the process's start time in clock ticks since boot, field 22 of
	// /proc/PID/stat (proc(5)).
	Start uint64
}

// Process is what one line of /proc/PID/stat says.
type Process struct {
	ID
	Parent int
	Zombie bool
}

// Read looks a process up by its number.
func Read(pid int) (Process, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, err
	}
	// The program's name, in brackets, may itself contain spaces and brackets.
	line := string(content)
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 20 {
		return Process{}, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return Process{}, err
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return Process{}, err
	}
	return Process{ID: ID{PID: pid, Start: start}, Parent: parent, Zombie: fields[0] == "Z"}, nil
}

// Identify returns the identity of a running process.
func Identify(pid int) (ID, error) {
	process, err := Read(pid)
	return process.ID, err
}

// Alive says whether exactly this process still runs. A zombie doesn't run.
func (id ID) Alive() bool {
	if id.PID == 0 {
		return false
	}
	process, err := Read(id.PID)
	return err == nil && process.Start == id.Start && !process.Zombie
}

// Kill sends SIGKILL if exactly this process still runs.
func (id ID) Kill() {
	if id.Alive() {
		_ = syscall.Kill(id.PID, syscall.SIGKILL)
	}
}

// List returns all processes that could be read.
func List() []Process {
	entries, _ := filepath.Glob("/proc/[0-9]*")
	processes := make([]Process, 0, len(entries))
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			continue
		}
		if process, err := Read(pid); err == nil {
			processes = append(processes, process)
		}
	}
	return processes
}

// Descendants are the processes below an ancestor, living or zombie, without itself.
func Descendants(ancestor int) []Process {
	children := map[int][]Process{}
	for _, process := range List() {
		children[process.Parent] = append(children[process.Parent], process)
	}
	var found []Process
	pending := []int{ancestor}
	for len(pending) > 0 {
		next := pending[0]
		pending = append(pending[1:], pids(children[next])...)
		found = append(found, children[next]...)
	}
	return found
}

func pids(processes []Process) []int {
	numbers := make([]int, len(processes))
	for i, process := range processes {
		numbers[i] = process.PID
	}
	return numbers
}

// Namespace returns the inode number of a namespace ("net", "mnt", …) of a process.
func Namespace(pid int, kind string) (uint64, error) {
	var stat syscall.Stat_t
	path := fmt.Sprintf("/proc/%d/ns/%s", pid, kind)
	if err := syscall.Stat(path, &stat); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return stat.Ino, nil
}
