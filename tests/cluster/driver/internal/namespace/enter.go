// Package namespace makes and enters the kernel namespaces that a cluster lives in.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Identity is whom an entered command runs as.
type Identity struct {
	UID, GID int
	Groups   []int
}

// Enter moves the calling process into the namespaces of a keeper, becomes the given
// user there and turns into the command. It returns only if that fails, and must be
// called on the main thread: another thread's parent death signal and thread id would
// be lost in execve(2).
func Enter(keeper int, who Identity, dir string, argv []string) error {
	if err := join(keeper); err != nil {
		return err
	}
	if dir == "" || os.Chdir(dir) != nil {
		// The caller's directory need not exist on the other side.
		if err := os.Chdir(os.Getenv("HOME")); err != nil {
			if err := os.Chdir("/"); err != nil {
				return err
			}
		}
	}
	if err := become(who); err != nil {
		return fmt.Errorf("becoming uid %d: %w", who.UID, err)
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", program, syscall.Exec(program, argv, os.Environ()))
}

// Command prepares a program that will run in a keeper's namespaces as root.
func Command(keeper int, argv ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(self, append([]string{"enter", "--target", strconv.Itoa(keeper), "--"}, argv...)...), nil
}

// join enters every namespace of the keeper that isn't the caller's already.
func join(keeper int) error {
	// All descriptors come first: after the mount namespace /proc is another one.
	kinds := []struct {
		name string
		flag int
	}{{"uts", unix.CLONE_NEWUTS}, {"net", unix.CLONE_NEWNET}, {"mnt", unix.CLONE_NEWNS}}
	files := make([]*os.File, len(kinds))
	for i, kind := range kinds {
		file, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", keeper, kind.name))
		if err != nil {
			return fmt.Errorf("the namespace's keeper is gone: %w", err)
		}
		defer file.Close()
		files[i] = file
	}
	// setns(2) refuses a mount namespace to a thread that shares its root and
	// directory with others, as all threads of a Go program do.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for i, kind := range kinds {
		if err := unix.Setns(int(files[i].Fd()), kind.flag); err != nil {
			return fmt.Errorf("entering the %s namespace of process %d: %w", kind.name, keeper, err)
		}
	}
	return nil
}

func become(who Identity) error {
	if who.UID == 0 && who.GID == 0 && len(who.Groups) == 0 {
		return nil
	}
	return errors.Join(
		syscall.Setgroups(who.Groups),
		syscall.Setresgid(who.GID, who.GID, who.GID),
		syscall.Setresuid(who.UID, who.UID, who.UID),
	)
}
