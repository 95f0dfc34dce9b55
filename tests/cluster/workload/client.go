package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

type headers http.Header

func (h headers) String() string { return "" }

func (h headers) Set(value string) error {
	name, content, found := strings.Cut(value, ":")
	if !found {
		return errors.New("NAME:VALUE is needed")
	}
	http.Header(h).Add(name, strings.TrimSpace(content))
	return nil
}

// get prints a page's body and fails unless the status is a success.
func get(arguments []string) error {
	flags := flag.NewFlagSet("workload get", flag.ExitOnError)
	timeout := flags.Duration("timeout", 5*time.Second, "for the whole request")
	header := headers{}
	flags.Var(header, "header", "NAME:VALUE, repeatable")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	request, err := http.NewRequest(http.MethodGet, flags.Arg(0), nil)
	if err != nil {
		return err
	}
	request.Header = http.Header(header)
	request.Host = request.Header.Get("Host")
	client := &http.Client{Timeout: *timeout}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode >= 400 {
		return errors.New(response.Status)
	}
	return nil
}

// tcp sends a text and prints everything until the other side closes.
func tcp(arguments []string) error {
	stream, text, err := dial("tcp", arguments)
	if err != nil {
		return err
	}
	defer stream.Close()
	if _, err := io.WriteString(stream, text); err != nil {
		return err
	}
	if half, ok := stream.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	_, err = io.Copy(os.Stdout, stream)
	return err
}

// udp sends a text as one datagram and prints the first that comes back.
func udp(arguments []string) error {
	packets, text, err := dial("udp", arguments)
	if err != nil {
		return err
	}
	defer packets.Close()
	if _, err := io.WriteString(packets, text); err != nil {
		return err
	}
	buffer := make([]byte, 64*1024)
	n, err := packets.Read(buffer)
	fmt.Print(string(buffer[:n]))
	return err
}

func dial(network string, arguments []string) (net.Conn, string, error) {
	flags := flag.NewFlagSet("workload "+network, flag.ExitOnError)
	timeout := flags.Duration("timeout", 5*time.Second, "for everything together")
	if err := flags.Parse(arguments); err != nil {
		return nil, "", err
	}
	text := flags.Arg(1)
	if text == "" {
		text = "hello\n"
	}
	connection, err := net.DialTimeout(network, flags.Arg(0), *timeout)
	if err != nil {
		return nil, "", err
	}
	return connection, text, connection.SetDeadline(time.Now().Add(*timeout))
}

// lookup prints addresses, or other records, one per line.
func lookup(arguments []string) error {
	flags := flag.NewFlagSet("workload lookup", flag.ExitOnError)
	kind := flags.String("type", "A", "A, AAAA, TXT, SRV, CNAME or PTR")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var lines []string
	var err error
	resolver, name := net.DefaultResolver, flags.Arg(0)
	switch strings.ToUpper(*kind) {
	case "A", "AAAA":
		network := map[string]string{"A": "ip4", "AAAA": "ip6"}[strings.ToUpper(*kind)]
		var addresses []net.IP
		addresses, err = resolver.LookupIP(ctx, network, name)
		for _, address := range addresses {
			lines = append(lines, address.String())
		}
	case "TXT":
		lines, err = resolver.LookupTXT(ctx, name)
	case "SRV":
		var records []*net.SRV
		_, records, err = resolver.LookupSRV(ctx, "", "", name)
		for _, record := range records {
			lines = append(lines, fmt.Sprintf("%d %d %d %s", record.Priority, record.Weight, record.Port, record.Target))
		}
	case "CNAME":
		var alias string
		alias, err = resolver.LookupCNAME(ctx, name)
		lines = []string{alias}
	case "PTR":
		lines, err = resolver.LookupAddr(ctx, name)
	default:
		err = fmt.Errorf("--type %s isn't known", *kind)
	}
	if err == nil {
		fmt.Println(strings.Join(lines, "\n"))
	}
	return err
}
