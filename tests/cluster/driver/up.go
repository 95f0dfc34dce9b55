package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"kdev.test/cluster/driver/internal/layout"
)

// up brings a cluster up, or says that it is up. One that can't be brought up is
// taken down again, unless --keep asks to leave it for a look.
func up(arguments []string) error {
	o := newOptions("up")
	config := layout.Config{}
	family := o.String("ip-family", "ipv4", "the usual networks of ipv4, ipv6, or dual: both, IPv4 first")
	podCIDRs := o.String("pod-cidr", "", "the pods' `networks`, one of each address family, with a comma")
	serviceCIDRs := o.String("service-cidr", "", "the services' `networks`")
	nodeNets := o.String("node-net", "", "the `networks` of node, laptop and router")
	o.StringVar(&config.Domain, "domain", "cluster.local", "the cluster's DNS `domain`")
	o.StringVar(&config.LAN, "lan", "", "share LAN, laptop and outside world of this other `cluster`")
	o.Var((*list)(&config.Shares), "share", "a `directory`, beside the checkout and /tmp, to be seen in the namespaces (repeatable)")
	limit := o.Duration("timeout", 2*time.Minute, "how long it may take")
	leave := o.Bool("keep", false, "leave a cluster that doesn't come up as it is")
	if err := o.parse(arguments); err != nil {
		return err
	}
	paths, err := o.paths()
	if err != nil {
		return err
	}
	config.Name, config.NodeHost = o.name, layout.FirstNodeHost
	if err := parseNetworks(&config, *family, *podCIDRs, *serviceCIDRs, *nodeNets); err != nil {
		return err
	}
	unlock, err := lock(paths)
	if err != nil {
		return err
	}
	defer unlock()
	if existing, err := layout.Load(paths); err == nil {
		return alreadyThere(paths, existing)
	}

	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(interrupted, *limit, fmt.Errorf("it takes longer than %s", *limit))
	defer cancel()
	bring := newBringUp(paths, config)
	err = bring.run(ctx)
	if err == nil {
		bring.done()
		return nil
	}
	if interrupted.Err() != nil {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(os.Stderr, "kdev-cluster: cluster %s doesn't come up: %v\n", config.Name, err)
	bring.explain()
	if *leave {
		fmt.Fprintf(os.Stderr, "left as it is; remove it with: kdev-cluster down --name %s\n", config.Name)
		return exitCode(1)
	}
	if err := takeDown(paths, false); err != nil {
		fmt.Fprintf(os.Stderr, "kdev-cluster: and removing it failed: %v\n", err)
	}
	return exitCode(1)
}

// parseNetworks takes what was typed, and the family's usual networks where nothing was.
func parseNetworks(config *layout.Config, family, pods, services, nodes string) error {
	usualPods, usualServices, usualNodes, err := layout.UsualNetworks(family)
	if err != nil {
		return err
	}
	for _, networks := range []struct {
		flag, text, usual string
		target            *layout.Networks
	}{
		{"--pod-cidr", pods, usualPods, &config.PodCIDRs},
		{"--service-cidr", services, usualServices, &config.ServiceCIDRs},
		{"--node-net", nodes, usualNodes, &config.NodeNets},
	} {
		if *networks.target, err = layout.ParseNetworks(cmp.Or(networks.text, networks.usual)); err != nil {
			return fmt.Errorf("%s: %w", networks.flag, err)
		}
	}
	return config.Validate()
}

// alreadyThere decides what `up` says about a cluster that exists.
func alreadyThere(paths layout.Paths, record *layout.Record) error {
	broken := ""
	components, err := clientOf(paths).List()
	switch {
	case err != nil:
		broken = err.Error()
	case !record.Ready:
		broken = "it came up only half"
	}
	for _, component := range components {
		if !component.Running && !component.Stopped {
			broken = component.Name + " has ended"
		}
	}
	if broken != "" {
		return fmt.Errorf("cluster %s is there but broken: %s (kdev-cluster down --name %s, then up)",
			record.Config.Name, broken, record.Config.Name)
	}
	fmt.Printf("cluster %s is up: %s\n", record.Config.Name, paths.Kubeconfig("admin"))
	return nil
}

// lock keeps two commands from building or removing one cluster at the same time. The
// file of the lock goes away with the lock.
func lock(paths layout.Paths) (func(), error) {
	for {
		if err := os.MkdirAll(paths.Root(), 0o755); err != nil {
			return nil, err
		}
		file, err := os.OpenFile(paths.Root()+"/."+paths.Name()+".lock", os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
			return nil, err
		}
		// Whoever held the lock before may have removed the file.
		mine, err := file.Stat()
		if err != nil {
			return nil, err
		}
		if there, err := os.Stat(file.Name()); err == nil && os.SameFile(mine, there) {
			return func() {
				_ = os.Remove(file.Name())
				_ = file.Close()
				_ = os.Remove(paths.Root()) // succeeds when it is empty
			}, nil
		}
		file.Close()
	}
}
