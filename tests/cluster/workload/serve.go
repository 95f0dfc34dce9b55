package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// serve listens on every port and ends, at once and with success, on SIGTERM: as
// process 1 of a pod it would otherwise be killed only after the grace period.
func serve(arguments []string) error {
	flags := flag.NewFlagSet("workload serve", flag.ExitOnError)
	httpPort := flags.Int("http", portFromEnv("HTTP_PORT", 8080), "HTTP server's port")
	echoPort := flags.Int("echo", portFromEnv("ECHO_PORT", 7007), "TCP echo's port")
	udpPort := flags.Int("udp-echo", portFromEnv("UDP_ECHO_PORT", 7007), "UDP echo's port")
	sinkPort := flags.Int("sink", portFromEnv("SINK_PORT", 7009), "port of the TCP sink, which reads and says nothing")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	failed := make(chan error)
	start := func(port int, what string, listen func(address string) (func() error, error)) error {
		if port == 0 {
			return nil
		}
		run, err := listen(":" + strconv.Itoa(port))
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		log.Printf("%s on port %d", what, port)
		go func() { failed <- run() }()
		return nil
	}
	for _, service := range []struct {
		port   int
		what   string
		listen func(string) (func() error, error)
	}{
		{*httpPort, "http", serveHTTP},
		{*echoPort, "tcp echo", onEachStream(func(stream net.Conn) { _, _ = io.Copy(stream, stream) })},
		{*udpPort, "udp echo", serveUDPEcho},
		{*sinkPort, "tcp sink", onEachStream(func(stream net.Conn) { _, _ = io.Copy(io.Discard, stream) })},
	} {
		if err := start(service.port, service.what, service.listen); err != nil {
			return err
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-failed:
		return err
	case <-ended:
		return nil
	}
}

func portFromEnv(name string, otherwise int) int {
	if port, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return port
	}
	return otherwise
}

func serveHTTP(address string) (func() error, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: routes(), Protocols: protocols}
	return func() error { return server.Serve(listener) }, nil
}

// onEachStream accepts connections; after the other side has closed its half, what is
// underway still goes out before this half is closed too.
func onEachStream(handle func(net.Conn)) func(string) (func() error, error) {
	return func(address string) (func() error, error) {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, err
		}
		return func() error {
			for {
				stream, err := listener.Accept()
				if err != nil {
					return err
				}
				go func() {
					defer stream.Close()
					handle(stream)
				}()
			}
		}, nil
	}
}

func serveUDPEcho(address string) (func() error, error) {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	return func() error {
		buffer := make([]byte, 64*1024)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return err
			}
			_, _ = packets.WriteTo(buffer[:n], from)
		}
	}, nil
}
