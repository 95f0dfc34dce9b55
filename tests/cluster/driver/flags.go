package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/supervise"
)

// options are the flags that every command has.
type options struct {
	*flag.FlagSet
	name, state string
}

func newOptions(command string) *options {
	o := &options{FlagSet: flag.NewFlagSet("kdev-cluster "+command, flag.ContinueOnError)}
	o.StringVar(&o.name, "name", fromEnv("KDEV_CLUSTER", "a"), "the cluster's `name`")
	o.StringVar(&o.state, "state", fromEnv("KDEV_CLUSTER_STATE", layout.DefaultStateRoot), "the `directory` that holds all clusters' state")
	return o
}

func fromEnv(variable, otherwise string) string {
	if value := os.Getenv(variable); value != "" {
		return value
	}
	return otherwise
}

// parse reads the flags in front of the first other argument.
func (o *options) parse(arguments []string) error {
	if err := o.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitCode(0)
		}
		return exitCode(2) // the flag package has said what is wrong
	}
	return nil
}

func (o *options) paths() (layout.Paths, error) {
	if os.Geteuid() != 0 {
		return layout.Paths{}, errors.New("clusters are made of namespaces and mounts: run this as root")
	}
	return layout.NewPaths(o.state, o.name)
}

// cluster loads an existing cluster.
func (o *options) cluster() (layout.Paths, *layout.Record, error) {
	paths, err := o.paths()
	if err != nil {
		return paths, nil, err
	}
	record, err := layout.Load(paths)
	return paths, record, err
}

// open parses the flags of a command that needs an existing cluster.
func open(command string, arguments []string) (*options, layout.Paths, *layout.Record, error) {
	o := newOptions(command)
	if err := o.parse(arguments); err != nil {
		return o, layout.Paths{}, nil, err
	}
	paths, record, err := o.cluster()
	return o, paths, record, err
}

func clientOf(paths layout.Paths) *supervise.Client {
	return supervise.NewClient(paths.Dir(), paths.Control())
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// keeperOf returns the namespace of a role, or says where it is instead.
func keeperOf(record *layout.Record, role layout.Role) (*layout.Namespace, error) {
	if namespace := record.Find(role); namespace != nil {
		return namespace, nil
	}
	if lan := record.Config.LAN; lan != "" {
		return nil, fmt.Errorf("cluster %s shares the LAN of %s, whose %s it is: use --name %s", record.Config.Name, lan, role, lan)
	}
	return nil, fmt.Errorf("cluster %s has no %s; it came up only half (kdev-cluster down --name %s)", record.Config.Name, role, record.Config.Name)
}
