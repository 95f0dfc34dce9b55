package namespace

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tunables are the kernel settings that kubelet insists on, with the values it wants
// (k8s.io/kubernetes/pkg/kubelet/cm, setupKernelTunables). They are no namespace's:
// kubelet would change the whole machine.
var tunables = map[string]string{
	"kernel/keys/root_maxbytes": "25000000",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
}

// protectMachineSettings shows the node files with those values in place of the
// settings, so that kubelet finds nothing to change, and makes all other settings
// that aren't the network namespace's read-only.
func protectMachineSettings() error {
	const settings, standIns = "/proc/sys", "/run/settings"
	for _, area := range []string{"debug", "dev", "fs", "kernel", "vm"} {
		if err := makeReadOnly(filepath.Join(settings, area)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(standIns, 0o755); err != nil {
		return err
	}
	for name, value := range tunables {
		file := filepath.Join(standIns, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, filepath.Join(settings, name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("covering %s: %w", name, err)
		}
	}
	return nil
}

func makeReadOnly(dir string) error {
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		return nil
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("covering %s: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("making %s read-only: %w", dir, err)
	}
	return nil
}
