package namespace

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"kdev.test/cluster/driver/internal/layout"
)

// Keep furnishes the new namespaces that the calling process is alone in, calls ready,
// and then holds them until it is ended.
func Keep(paths layout.Paths, config *layout.Config, role layout.Role, ready func()) error {
	if err := setSysctls(config, role); err != nil {
		return err
	}
	if role != layout.LAN {
		if err := furnish(paths, config, role); err != nil {
			return fmt.Errorf("preparing the %s's files: %w", role, err)
		}
	}
	ready()
	forever := make(chan os.Signal, 1)
	signal.Notify(forever, syscall.SIGTERM)
	<-forever
	return nil
}

func furnish(paths layout.Paths, config *layout.Config, role layout.Role) error {
	checkout, err := layout.Checkout()
	if err != nil {
		return err
	}
	tools, err := layout.Tools()
	if err != nil {
		return err
	}
	root := Root{
		Scratch: paths.In("namespaces", string(role)),
		Shares:  append([]string{checkout, paths.Root()}, config.Shares...),
		Empty:   []string{"/root", "/home"},
	}
	if role == layout.Node {
		root.Binds = nodeBinds(paths)
	}
	if err := root.Build(); err != nil {
		return err
	}
	// The machine's umask must not decide who can read what is made here.
	unix.Umask(0o022)
	if err := nameHost(config.Name + "-" + string(role)); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(tools, "kubectl"), "/usr/local/bin/kubectl"); err != nil && !os.IsExist(err) {
		return err
	}
	switch role {
	case layout.Node:
		return furnishNode(paths, config)
	case layout.Laptop:
		return furnishLaptop(paths, config)
	}
	return nil
}

func nameHost(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	hosts := "127.0.0.1 localhost\n127.0.1.1 " + name + "\n::1 localhost ip6-localhost ip6-loopback\n"
	return writeFiles(map[string]string{"/etc/hostname": name + "\n", "/etc/hosts": hosts})
}

// nodeBinds put what must not lie on an overlay or in memory on the machine's disk:
// containerd can't stack its own overlays on one.
func nodeBinds(paths layout.Paths) []Bind {
	return []Bind{
		{paths.In("node", "containerd"), "/var/lib/containerd"},
		{paths.In("node", "kubelet"), "/var/lib/kubelet"},
		{paths.In("node", "pod-logs"), "/var/log/pods"},
	}
}

func furnishNode(paths layout.Paths, config *layout.Config) error {
	if err := protectMachineSettings(); err != nil {
		return err
	}
	// Pods may ask for mount propagation, which needs a shared root, shared here
	// with nobody but the node's own pods.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	if err := os.MkdirAll("/root/.kube", 0o700); err != nil {
		return err
	}
	if err := os.Symlink(paths.Kubeconfig("admin"), "/root/.kube/config"); err != nil {
		return err
	}
	return writeFiles(map[string]string{
		"/etc/resolv.conf": fmt.Sprintf("nameserver %s\n", config.OutsideResolver()),
	})
}

// setSysctls writes only settings that each network namespace has of its own.
func setSysctls(config *layout.Config, role layout.Role) error {
	settings := map[string]string{
		// A machine's choice of congestion control must not decide what tests measure.
		"net/ipv4/tcp_congestion_control": "reno",
		// Everyone may ping, as systemd sets it on usual machines.
		"net/ipv4/ping_group_range": "0 2147483647",
	}
	if role == layout.Node || role == layout.Outside {
		settings["net/ipv4/ip_forward"] = "1"
		// "Unreachable" must be told at once and always, not six times and then
		// once a second: tests connect to unreachable addresses in quick succession.
		settings["net/ipv4/icmp_ratelimit"] = "0"
		if config.HasIPv6() {
			settings["net/ipv6/conf/all/forwarding"] = "1"
			settings["net/ipv6/icmp/ratelimit"] = "0"
		}
	}
	for name, value := range settings {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting %s: %w", strings.ReplaceAll(name, "/", "."), err)
		}
	}
	return nil
}

// writeFiles replaces files of the private root. A symbolic link such as
// systemd-resolved's /etc/resolv.conf is replaced, not followed.
func writeFiles(files map[string]string) error {
	for path, content := range files {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
