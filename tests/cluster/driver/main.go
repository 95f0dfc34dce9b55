// Program kdev-cluster brings a real Kubernetes cluster up on a bare Linux machine, in
// network namespaces of its own, with a developer's laptop and a bit of outside world
// beside it. See ../README.md.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

type command struct {
	name    string
	summary string
	run     func(arguments []string) error
}

// commands are set in init, since `help` refers to them.
var commands []command

func init() {
	// The main goroutine stays on the main thread: namespaces are entered, and
	// children forked, by a thread that lives as long as the process.
	runtime.LockOSThread()
	// nft, runc and others are in directories that a su without - leaves out.
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	commands = []command{
		{"up", "bring a cluster up; says so if it is up already", up},
		{"down", "end it and remove every trace", down},
		{"status", "show what runs, and where", status},
		{"kubeconfig", "print the path of the administrator's kubeconfig, or make one: --user NAME [--group G]...", kubeconfig},
		{"import", "IMAGE.tar...: load images into the node", importImages},
		{"lap", "[--as USER] CMD...: run a command on the laptop", lap},
		{"node", "CMD...: run a command on the node", node},
		{"outside", "CMD...: run a command in the outside world", outsideCommand},
		{"restart-apiserver", "restart the API server and wait until it serves", restartAPIServer},
		{"stop-apiserver", "stop the API server; --now kills it", stopAPIServer},
		{"start-apiserver", "start it again and wait until it serves", startAPIServer},
		{"audit", "print the path of the audit log", audit},
		{"outside-log", "print the path of the outside resolver's query log", outsideLog},
		{"logs", "[COMPONENT]: show the end of a component's log, or where the logs are", logs},
		{"image", "--out X.tar --name NAME:TAG --entrypoint PATH [--user UID] FILE=DEST...: write an image", writeImage},

		// What the driver runs as its own children.
		{"supervise", "", supervisor},
		{"keep", "", keep},
		{"enter", "", enter},
		{"serve-outside", "", serveOutside},
	}
}

// exitCode is an error that only says how to exit: the command was run and its own
// output has explained the rest.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	if len(os.Args) < 2 || os.Args[1] == "help" || os.Args[1] == "--help" || os.Args[1] == "-h" {
		usage(os.Stdout)
		return
	}
	for _, command := range commands {
		if command.name == os.Args[1] {
			os.Exit(report(command.run(os.Args[2:])))
		}
	}
	fmt.Fprintf(os.Stderr, "kdev-cluster: there is no command %q\n\n", os.Args[1])
	usage(os.Stderr)
	os.Exit(2)
}

func report(err error) int {
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	default:
		fmt.Fprintln(os.Stderr, "kdev-cluster:", err)
		return 1
	}
}

func usage(out *os.File) {
	fmt.Fprintln(out, "usage: kdev-cluster COMMAND [--name CLUSTER] [--state DIR] ...")
	for _, command := range commands {
		if command.summary != "" {
			fmt.Fprintf(out, "  %-18s %s\n", command.name, command.summary)
		}
	}
	fmt.Fprintln(out, "\nThe cluster's name is a, or what KDEV_CLUSTER says; the state lies in /var/lib/kdev-cluster,")
	fmt.Fprintln(out, "or where KDEV_CLUSTER_STATE says. All commands need root.")
}
