package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kdev.test/cluster/driver/internal/cgroup"
	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/network"
	"kdev.test/cluster/driver/internal/procs"
)

// down ends a cluster, whole or half, and removes every trace of it.
func down(arguments []string) error {
	o := newOptions("down")
	force := o.Bool("force", false, "even if other clusters share its LAN")
	if err := o.parse(arguments); err != nil {
		return err
	}
	paths, err := o.paths()
	if err != nil {
		return err
	}
	if _, err := os.Stat(paths.Dir()); os.IsNotExist(err) {
		fmt.Printf("cluster %s isn't there\n", o.name)
		return nil
	}
	unlock, err := lock(paths)
	if err != nil {
		return err
	}
	defer unlock()
	began := time.Now()
	if err := takeDown(paths, *force); err != nil {
		return err
	}
	fmt.Printf("cluster %s is gone after %.1fs\n", o.name, time.Since(began).Seconds())
	return nil
}

// takeDown works on whatever an `up` got to. The record is the last thing that goes,
// so that it can be called again when it failed.
func takeDown(paths layout.Paths, force bool) error {
	record, err := layout.Load(paths)
	if errors.Is(err, layout.ErrNone) {
		return removeEmpty(paths)
	}
	if err != nil {
		return err
	}
	if sharers := sharersOf(paths, record.Config.Name); len(sharers) > 0 && !force {
		return fmt.Errorf("cluster %s uses the LAN of %s: take it down first, or use --force",
			sharers[0].Config.Name, record.Config.Name)
	}
	if record.Boot == layout.BootID() {
		if !record.Config.HasLAN() {
			if lan, err := lanOf(paths, record); err == nil {
				network.Unplug(lan, nodePort(&record.Config))
			}
		}
		if err := endProcesses(paths, record); err != nil {
			return err
		}
		if err := cgroup.Remove(record.Cgroup, 10*time.Second); err != nil {
			return err
		}
	}
	if err := unmountBelow(paths.Dir()); err != nil {
		return err
	}
	return os.RemoveAll(paths.Dir())
}

// removeEmpty deals with an `up` that ended before it wrote anything.
func removeEmpty(paths layout.Paths) error {
	if err := os.Remove(paths.Dir()); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("%s isn't a cluster's state, so it stays: %w", paths.Dir(), err)
	}
	return nil
}

// endProcesses has the supervisor kill its descendants, which it also reaps. What
// lives on without it, because it was killed before, is found by its namespaces and
// control group.
func endProcesses(paths layout.Paths, record *layout.Record) error {
	_ = clientOf(paths).Shutdown()
	record.Supervisor.Kill()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left := leftovers(paths, record)
		if record.Supervisor.Alive() {
			left = append(left, record.Supervisor)
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes don't end on SIGKILL, process %d is one of them", len(left), left[0].PID)
		}
		for _, process := range left {
			process.Kill()
		}
	}
}

// leftovers are the living processes that belong to a cluster. The kernel gives the
// inode number of a namespace that is gone to a later one, so a process that is older
// than the cluster, or another cluster's, is never among them.
func leftovers(paths layout.Paths, record *layout.Record) []procs.ID {
	var others []int
	for _, sibling := range siblings(paths) {
		if sibling.Config.Name != record.Config.Name && sibling.Supervisor.Alive() {
			others = append(others, sibling.Supervisor.PID)
			for _, process := range procs.Descendants(sibling.Supervisor.PID) {
				others = append(others, process.PID)
			}
		}
	}
	members := cgroup.Members(record.Cgroup)
	var left []procs.ID
	for _, process := range procs.List() {
		if process.Zombie || process.PID == os.Getpid() || slices.Contains(others, process.PID) {
			continue
		}
		if slices.Contains(members, process.PID) || livesIn(process, record) {
			left = append(left, process.ID)
		}
	}
	return left
}

func livesIn(process procs.Process, record *layout.Record) bool {
	for _, namespace := range record.Namespaces {
		if process.Start < namespace.Keeper.Start {
			continue
		}
		if net, err := procs.Namespace(process.PID, "net"); err == nil && net == namespace.Net {
			return true
		}
		if mnt, err := procs.Namespace(process.PID, "mnt"); err == nil && mnt == namespace.Mnt {
			return true
		}
	}
	return false
}

// unmountBelow releases mounts under a directory. The cluster makes its mounts in
// namespaces that are gone by now; this is for those that somebody made by hand, so
// that the removal that follows can't reach through them.
func unmountBelow(dir string) error {
	content, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var mounts []string
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			mounts = append(mounts, fields[1])
		}
	}
	for _, mount := range slices.Backward(mounts) {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil && err != syscall.EINVAL {
			return fmt.Errorf("unmounting %s: %w", mount, err)
		}
	}
	return nil
}
