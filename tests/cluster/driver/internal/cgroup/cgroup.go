// Package cgroup makes and removes the control group that a cluster's containers
// live in: one in every hierarchy of version 1, or a single one of version 2.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is a mounted control group file system.
type hierarchy struct {
	mount  string
	v2     bool
	cpuset bool
}

func hierarchies() ([]hierarchy, error) {
	content, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var found []hierarchy
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[1], "/sys/fs/cgroup") {
			continue
		}
		switch fields[2] {
		case "cgroup":
			options := "," + fields[3] + ","
			found = append(found, hierarchy{mount: fields[1], cpuset: strings.Contains(options, ",cpuset,")})
		case "cgroup2":
			found = append(found, hierarchy{mount: fields[1], v2: true})
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no control groups are mounted under /sys/fs/cgroup")
	}
	return found, nil
}

// Make creates the group everywhere.
func Make(name string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		// Beside version 1 hierarchies the unified one has no controllers and
		// kubelet doesn't use it.
		if h.v2 && len(all) > 1 {
			continue
		}
		dir := filepath.Join(h.mount, name)
		if h.v2 {
			delegate(h.mount)
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if h.v2 {
			if err := haveControllers(dir); err != nil {
				return err
			}
			delegate(dir)
		}
		if h.cpuset {
			if err := inheritCpuset(h.mount, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// inheritCpuset fills in what a version 1 cpuset starts without, and without which
// no process can be put into it.
func inheritCpuset(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(child, file), value, 0o644); err != nil {
			return fmt.Errorf("setting %s of %s: %w", file, child, err)
		}
	}
	return nil
}

// delegate lets the children of a version 2 group have the controllers that the group
// itself has. One that can't be handed on may not be needed: haveControllers decides.
func delegate(group string) {
	available, _ := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	for controller := range strings.FieldsSeq(string(available)) {
		_ = os.WriteFile(filepath.Join(group, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
	}
}

// haveControllers says whether a version 2 group has what kubelet can't do without.
func haveControllers(group string) error {
	available, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, needed := range []string{"cpu", "cpuset", "memory", "pids"} {
		if !slices.Contains(strings.Fields(string(available)), needed) {
			return fmt.Errorf("%s lacks the controller %s (the machine's cgroup.subtree_control doesn't hand it on)", group, needed)
		}
	}
	return nil
}

// each calls a function for every group of that name and below, parents first.
func each(name string, do func(dir string)) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		_ = filepath.WalkDir(filepath.Join(h.mount, name), func(path string, entry fs.DirEntry, err error) error {
			// Groups come and go while they are walked.
			if err == nil && entry.IsDir() {
				do(path)
			}
			return nil
		})
	}
	return nil
}

// Members are the processes in the group and below, in any hierarchy.
func Members(name string) []int {
	seen := map[int]bool{}
	var members []int
	_ = each(name, func(dir string) {
		content, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, field := range strings.Fields(string(content)) {
			if pid, err := strconv.Atoi(field); err == nil && !seen[pid] {
				seen[pid] = true
				members = append(members, pid)
			}
		}
	})
	return members
}

// Remove deletes the group and all below it. The kernel keeps a group for a moment
// after its last process, so that is tried until the limit.
func Remove(name string, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		var dirs []string
		if err := each(name, func(dir string) { dirs = append(dirs, dir) }); err != nil {
			return err
		}
		var failed error
		for i := len(dirs) - 1; i >= 0; i-- {
			err := unix.Rmdir(dirs[i])
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = fmt.Errorf("removing %s: %w", dirs[i], err)
			}
		}
		if failed == nil || time.Now().After(deadline) {
			return failed
		}
	}
}
