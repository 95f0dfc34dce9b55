// Program workload is what test pods run, server and client in one static file, for
// an image that holds nothing else.
package main

import (
	"fmt"
	"os"
)

const usage = `usage:
  workload [serve] [--http PORT] [--echo PORT] [--udp-echo PORT] [--sink PORT]
  workload get [--header NAME:VALUE]... [--timeout 5s] URL    print a page's body
  workload tcp [--timeout 5s] HOST:PORT [TEXT]                send TEXT, print what comes back
  workload udp [--timeout 5s] HOST:PORT [TEXT]                the same with a datagram
  workload lookup [--type A] NAME                             print what the resolver answers
Ports may also be given as HTTP_PORT, ECHO_PORT, UDP_ECHO_PORT, SINK_PORT; 0 leaves one out.
`

func main() {
	arguments := os.Args[1:]
	mode := "serve"
	if len(arguments) > 0 && arguments[0][0] != '-' {
		mode, arguments = arguments[0], arguments[1:]
	}
	modes := map[string]func([]string) error{
		"serve": serve, "get": get, "tcp": tcp, "udp": udp, "lookup": lookup,
	}
	run, known := modes[mode]
	if !known {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := run(arguments); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}
