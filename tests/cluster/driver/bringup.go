package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"kdev.test/cluster/driver/internal/cgroup"
	"kdev.test/cluster/driver/internal/kube"
	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/procs"
	"kdev.test/cluster/driver/internal/supervise"
)

// bringUp is one run of `up`.
type bringUp struct {
	paths   layout.Paths
	record  *layout.Record
	tools   string
	client  *supervise.Client
	specs   map[string]supervise.Spec
	started time.Time
	// saving guards the record, which steps that run side by side add to.
	saving sync.Mutex
}

func newBringUp(paths layout.Paths, config layout.Config) *bringUp {
	return &bringUp{
		paths: paths, client: clientOf(paths), started: time.Now(),
		record: &layout.Record{Config: config, Boot: layout.BootID(), Cgroup: paths.CgroupName()},
	}
}

func (b *bringUp) run(ctx context.Context) error {
	steps := []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"tools and images are there", b.checkTools},
		{"directories, credentials, configuration", b.prepareFiles},
		{"supervisor", b.startSupervisor},
		{"namespaces and network", b.makeNamespaces},
	}
	for _, step := range steps {
		if err := b.step(step.name, func() error { return step.do(ctx) }); err != nil {
			return err
		}
	}
	// From here on a component that ends is the end of waiting for it.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go b.watchComponents(ctx, cancel)
	if err := b.startCluster(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			return errors.Join(cause, err)
		}
		return err
	}
	b.record.Ready = true
	return b.save()
}

// step prints a line when something is done: when, since the start, and how long it took.
func (b *bringUp) step(name string, do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Printf("%6.2fs  %s (%.2fs)\n", time.Since(b.started).Seconds(), name, time.Since(began).Seconds())
	return nil
}

func (b *bringUp) done() {
	fmt.Printf("cluster %s is up after %.1fs: %s\n", b.record.Config.Name, time.Since(b.started).Seconds(), b.paths.Kubeconfig("admin"))
}

func (b *bringUp) save() error {
	b.saving.Lock()
	defer b.saving.Unlock()
	return b.record.Save(b.paths)
}

func (b *bringUp) checkTools(context.Context) error {
	tools, err := layout.Tools()
	if err != nil {
		return err
	}
	b.tools = tools
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "nft", "ip", "conntrack", "sudo"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w (install what is missing with tests/cluster/deps.sh)", err)
		}
	}
	images, err := imagePaths()
	if err != nil {
		return err
	}
	for _, file := range append(images, filepath.Join(tools, "kubernetes"), filepath.Join(tools, "kubectl"), "/usr/lib/cni/ptp") {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%w (make it with tests/cluster/deps.sh and tests/cluster/build.sh)", err)
		}
	}
	return nil
}

func (b *bringUp) prepareFiles(context.Context) error {
	config := &b.record.Config
	if err := b.joinLAN(); err != nil {
		return err
	}
	if err := os.Mkdir(b.paths.Dir(), 0o755); err != nil {
		return err
	}
	// The record comes first: from now on `down` can clean up.
	if err := b.save(); err != nil {
		return err
	}
	for _, dir := range []string{
		"audit", "config", "etcd", "kubeconfig", "laptop", "logs", "namespaces", "outside", "pki",
		"node/containerd", "node/kubelet", "node/pod-logs",
		"namespaces/node", "namespaces/laptop", "namespaces/outside",
	} {
		if err := os.MkdirAll(b.paths.In(dir), 0o755); err != nil {
			return err
		}
	}
	// etcd refuses a data directory that others may read.
	if err := errors.Join(os.Chmod(b.paths.In("etcd"), 0o700), os.Chmod(b.paths.In("pki"), 0o700)); err != nil {
		return err
	}
	if err := os.WriteFile(b.paths.OutsideLog(), nil, 0o644); err != nil {
		return err
	}
	return errors.Join(
		kube.WriteCredentials(b.paths, config),
		kube.WriteConfiguration(b.paths, config),
		cgroup.Make(b.record.Cgroup),
	)
}

// joinLAN takes the network of the cluster whose LAN is shared, and a free place in it.
func (b *bringUp) joinLAN() error {
	config := &b.record.Config
	if config.HasLAN() {
		return nil
	}
	host, err := layout.Load(b.paths.Sibling(config.LAN))
	if err != nil {
		return fmt.Errorf("--lan: %w", err)
	}
	if !host.Config.HasLAN() {
		return fmt.Errorf("--lan: cluster %s has no LAN of its own, it shares that of %s", config.LAN, host.Config.LAN)
	}
	config.NodeNets = host.Config.NodeNets
	taken := map[int]bool{host.Config.NodeHost: true}
	for _, sibling := range sharersOf(b.paths, config.LAN) {
		taken[sibling.Config.NodeHost] = true
	}
	for taken[config.NodeHost] {
		config.NodeHost++
	}
	return config.Validate()
}

// sharersOf are the clusters that share another one's LAN.
func sharersOf(paths layout.Paths, lan string) []*layout.Record {
	var sharers []*layout.Record
	for _, record := range siblings(paths) {
		if record.Config.LAN == lan {
			sharers = append(sharers, record)
		}
	}
	return sharers
}

// siblings are the records of all clusters under the same state root.
func siblings(paths layout.Paths) []*layout.Record {
	var records []*layout.Record
	entries, _ := os.ReadDir(paths.Root())
	for _, entry := range entries {
		if record, err := layout.Load(paths.Sibling(entry.Name())); err == nil {
			records = append(records, record)
		}
	}
	return records
}

func (b *bringUp) startSupervisor(context.Context) error {
	log, err := os.OpenFile(b.paths.Log("supervisor"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	announced, announce, err := os.Pipe()
	if err != nil {
		return err
	}
	defer announced.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.Command(self, "supervise", "--name", b.record.Config.Name, "--state", b.paths.Root())
	command.Stdout, command.Stderr = log, log
	command.ExtraFiles = []*os.File{announce}
	command.Dir = "/"
	// Components must not find a proxy, or any other setting of the caller's.
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "HOME=/root"}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return err
	}
	announce.Close()
	if n, _ := announced.Read(make([]byte, 1)); n == 0 {
		return fmt.Errorf("it gave up: %s", tail(b.paths.Log("supervisor"), 5))
	}
	if b.record.Supervisor, err = procs.Identify(command.Process.Pid); err != nil {
		return err
	}
	return b.save()
}

// watchComponents cancels the bringing up when a component ends by itself.
func (b *bringUp) watchComponents(ctx context.Context, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		components, err := b.client.List()
		if err != nil {
			cancel(err)
			return
		}
		for _, component := range components {
			if !component.Running {
				cancel(fmt.Errorf("%s ended with status %d; the end of its log:\n%s",
					component.Name, component.Exit, tail(component.Log, 15)))
				return
			}
		}
	}
}
