package namespace

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// DialTCP connects from within another process's network namespace. Only the
// socket's making takes place there: a socket belongs to the namespace it was made
// in, whoever uses it later.
func DialTCP(keeper int, address netip.AddrPort) (net.Conn, error) {
	type result struct {
		socket int
		err    error
	}
	made := make(chan result, 1)
	go func() {
		socket, err := socketIn(keeper, address.Addr())
		made <- result{socket, err}
	}()
	r := <-made
	if r.err != nil {
		return nil, r.err
	}
	file := os.NewFile(uintptr(r.socket), "api-server")
	defer file.Close()
	var target unix.Sockaddr = &unix.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()}
	if address.Addr().Is4() {
		target = &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
	}
	if err := unix.Connect(r.socket, target); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return net.FileConn(file)
}

// socketIn makes a TCP socket on a thread that it moves into the namespace and then
// gives up: a locked thread that isn't unlocked ends with its goroutine.
func socketIn(keeper int, address netip.Addr) (int, error) {
	runtime.LockOSThread()
	target, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", keeper))
	if err != nil {
		return -1, err
	}
	defer target.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		return -1, err
	}
	family := unix.AF_INET6
	if address.Is4() {
		family = unix.AF_INET
	}
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
}
