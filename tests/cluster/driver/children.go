package main

import (
	"errors"
	"flag"
	"os"
	"strconv"
	"strings"

	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/namespace"
	"kdev.test/cluster/driver/internal/outside"
	"kdev.test/cluster/driver/internal/supervise"
)

// supervisor is the parent of everything in one cluster.
func supervisor(arguments []string) error {
	o := newOptions("supervise")
	if err := o.parse(arguments); err != nil {
		return err
	}
	paths, err := o.paths()
	if err != nil {
		return err
	}
	return supervise.Serve(paths.Dir(), paths.Control(), announce)
}

// keep holds the namespaces of one role.
func keep(arguments []string) error {
	o, paths, record, err := open("keep", arguments)
	if err != nil {
		return err
	}
	return namespace.Keep(paths, &record.Config, layout.Role(o.Arg(0)), announce)
}

// serveOutside is the resolver and the web pages of the outside world.
func serveOutside(arguments []string) error {
	_, paths, record, err := open("serve-outside", arguments)
	if err != nil {
		return err
	}
	return outside.Serve(paths, &record.Config, announce)
}

// announce tells the parent, through descriptor 3, that this process is ready.
func announce() {
	pipe := os.NewFile(3, "announce")
	_, _ = pipe.Write([]byte{1})
	pipe.Close()
}

// enter turns into a command within a keeper's namespaces.
func enter(arguments []string) error {
	flags := flag.NewFlagSet("kdev-cluster enter", flag.ContinueOnError)
	target := flags.Int("target", 0, "")
	who := namespace.Identity{}
	flags.IntVar(&who.UID, "uid", 0, "")
	flags.IntVar(&who.GID, "gid", 0, "")
	groups := flags.String("groups", "", "")
	dir := flags.String("dir", "", "")
	if err := flags.Parse(arguments); err != nil {
		return exitCode(2)
	}
	if flags.NArg() == 0 {
		return errors.New("no command is given")
	}
	for group := range strings.SplitSeq(*groups, ",") {
		if number, err := strconv.Atoi(group); err == nil {
			who.Groups = append(who.Groups, number)
		}
	}
	err := namespace.Enter(*target, who, *dir, flags.Args())
	_ = report(err)
	// As a shell does: 127 for a command that isn't there, 126 for one that can't run.
	if errors.Is(err, os.ErrPermission) {
		return exitCode(126)
	}
	return exitCode(127)
}
