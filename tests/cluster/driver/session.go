package main

import (
	"errors"
	"os"
	"strings"

	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/namespace"
	"kdev.test/cluster/driver/internal/supervise"
)

func lap(arguments []string) error { return run(layout.Laptop, "lap", arguments) }

func node(arguments []string) error { return run(layout.Node, "node", arguments) }

func outsideCommand(arguments []string) error { return run(layout.Outside, "outside", arguments) }

// run executes a command in one of the namespaces with this process's streams, and
// exits as it does. The supervisor is its parent, so that daemons which the command
// leaves behind have one that reaps them.
func run(role layout.Role, name string, arguments []string) error {
	o := newOptions(name)
	as := "root"
	if role == layout.Laptop {
		o.StringVar(&as, "as", as, "the laptop's `user`: root, dev or eve")
	}
	if err := o.parse(arguments); err != nil {
		return err
	}
	if o.NArg() == 0 {
		return errors.New("no command is given")
	}
	user, err := namespace.FindUser(as)
	if err != nil {
		return err
	}
	paths, record, err := o.cluster()
	if err != nil {
		return err
	}
	where, err := keeperOf(record, role)
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	code, err := clientOf(paths).Run(supervise.Session{
		Argv: o.Args(), Env: environment(user), Dir: dir, Within: where.Keeper.PID,
		UID: user.UID, GID: user.UID, Groups: []int{user.UID},
	})
	if err != nil {
		return err
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

// environment is the caller's, with what belongs to a person replaced: a test may set
// variables, but the machine's own directories must not leak into the laptop.
func environment(user namespace.User) []string {
	const first = "/usr/local/sbin:/usr/local/bin"
	var kept []string
	path := "/usr/sbin:/usr/bin:/sbin:/bin"
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case name == "PATH":
			path = value
		case name == "HOME", name == "USER", name == "LOGNAME", name == "MAIL", name == "SHELL",
			name == "PWD", name == "OLDPWD",
			strings.HasPrefix(name, "XDG_"), strings.HasPrefix(name, "SUDO_"), strings.HasPrefix(name, "DBUS_"),
			// The machine's proxy isn't on this network.
			strings.HasSuffix(strings.ToLower(name), "_proxy"):
		default:
			kept = append(kept, variable)
		}
	}
	return append(kept,
		"PATH="+first+":"+path,
		"HOME="+user.Home,
		"USER="+user.Name,
		"LOGNAME="+user.Name,
		"SHELL=/bin/bash",
		"XDG_RUNTIME_DIR="+user.RuntimeDir(),
	)
}
