package namespace

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Root describes a private view of the machine's files: the machine's own system
// below, a layer in memory above it. What is written there is gone with the
// namespace, and two clusters can both have a /var/lib/kubelet.
type Root struct {
	// Scratch is an empty directory to build in; nothing is left in it.
	Scratch string
	// Shares are directories seen as they are on the machine, under the same path.
	Shares []string
	// Binds are further directories or files: from where on the machine, to where.
	Binds []Bind
	// Empty are directories whose content on the machine must not be seen.
	Empty []string
}

// Bind shows a directory or file at another place.
type Bind struct{ From, To string }

// tree is a detached copy of a mount tree, waiting for its place.
type tree struct {
	file   int
	target string
	isDir  bool
}

// Build replaces the root of the calling process, which must be alone in a new mount
// namespace.
func (r *Root) Build() error {
	// Nothing mounted from here on may reach the machine.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making all mounts private: %w", err)
	}
	// All sources are picked up first, since building covers some of them.
	trees, err := r.detach()
	if err != nil {
		return err
	}
	if err := r.overlay(); err != nil {
		return err
	}
	for _, dir := range append([]string{"/run"}, r.Empty...) {
		if err := mountTmpfs(inside(dir), "mode=0755"); err != nil {
			return err
		}
	}
	// A /sys of its own shows the network namespace's devices and no others.
	if err := unix.Mount("sysfs", inside("/sys"), "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mounting /sys: %w", err)
	}
	for _, tree := range trees {
		if err := tree.attach(); err != nil {
			return err
		}
	}
	if err := tunDevice(); err != nil {
		return err
	}
	return pivot()
}

// inside is a path of the new root while it is still the directory `root` below the
// current directory.
func inside(path string) string { return filepath.Join("root", path) }

func (r *Root) detach() ([]tree, error) {
	binds := []Bind{{"/proc", "/proc"}, {"/dev", "/dev"}, {"/sys/fs/cgroup", "/sys/fs/cgroup"}, {"/tmp", "/tmp"}}
	for _, share := range r.Shares {
		binds = append(binds, Bind{share, share})
	}
	binds = append(binds, r.Binds...)
	var trees []tree
	for _, bind := range binds {
		if within(bind.To, trees) && bind.From == bind.To {
			continue
		}
		info, err := os.Stat(bind.From)
		if err != nil {
			return nil, err
		}
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)
		file, err := unix.OpenTree(unix.AT_FDCWD, bind.From, flags)
		if err != nil {
			return nil, fmt.Errorf("taking %s: %w", bind.From, err)
		}
		trees = append(trees, tree{file: file, target: bind.To, isDir: info.IsDir()})
	}
	return trees, nil
}

// within says whether a path comes with one of the trees already.
func within(path string, trees []tree) bool {
	for _, tree := range trees {
		if strings.HasPrefix(path+"/", tree.target+"/") {
			return true
		}
	}
	return false
}

func (r *Root) overlay() error {
	if err := mountTmpfs(r.Scratch, "mode=0755"); err != nil {
		return err
	}
	// Relative paths keep commas and colons of the state directory's name out of
	// the mount options.
	if err := os.Chdir(r.Scratch); err != nil {
		return err
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	options := "lowerdir=/,upperdir=upper,workdir=work"
	if err := unix.Mount("overlay", "root", "overlay", 0, options); err != nil {
		return fmt.Errorf("laying a layer over the machine's root: %w", err)
	}
	return nil
}

func (t *tree) attach() error {
	target := inside(t.target)
	if t.isDir {
		if err := makeReachable(t.target); err != nil {
			return err
		}
	} else if err := os.WriteFile(target, nil, 0o644); err != nil {
		return err
	}
	err := unix.MoveMount(t.file, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("placing %s: %w", t.target, err)
	}
	return unix.Close(t.file)
}

// makeReachable creates a mount point and lets everyone pass the directories above
// it, which changes only the private layer: a checkout below /root must be usable
// for the laptop's ordinary users.
func makeReachable(path string) error {
	if err := os.MkdirAll(inside(path), 0o755); err != nil {
		return err
	}
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(inside(dir))
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			if err := os.Chmod(inside(dir), info.Mode()|0o011); err != nil {
				return err
			}
		}
	}
	return nil
}

// tunDevice gives everyone a /dev/net/tun, as udev does on a usual machine.
func tunDevice() error {
	dir := inside("/dev/net")
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("there is no /dev/net on this machine (load the tun module: modprobe tun): %w", err)
	}
	if err := mountTmpfs(dir, "mode=0755"); err != nil {
		return err
	}
	node := filepath.Join(dir, "tun")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		return fmt.Errorf("making %s: %w", node, err)
	}
	return os.Chmod(node, 0o666)
}

func mountTmpfs(target, options string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID, options); err != nil {
		return fmt.Errorf("mounting a tmpfs on %s: %w", target, err)
	}
	return nil
}

// pivot makes the new root the only one. The old one is stacked on the same
// directory for a moment (pivot_root(2), "pivot_root(".", ".")").
func pivot() error {
	if err := os.Chdir("root"); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Chdir("/")
}
