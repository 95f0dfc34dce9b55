package outside

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"kdev.test/cluster/driver/internal/layout"
)

// answerForNowhere tells every sender of a packet to an unknown address that its host
// is unreachable (RFC 792), through the TUN device that all such packets are routed
// to.
//
// The kernel's own unreachable route would say the same, but too early: between
// namespaces of one machine its answer arrives while connect(2) still holds the
// socket, which then doesn't fail but waits a second for its next attempt.
func answerForNowhere() (func() error, error) {
	device, err := openTUN(layout.Nowhere)
	if err != nil {
		return nil, err
	}
	return func() error {
		packet := make([]byte, 64*1024)
		for {
			n, err := device.Read(packet)
			if err != nil {
				return err
			}
			if answer := unreachable(packet[:n]); answer != nil {
				_, _ = device.Write(answer)
			}
		}
	}, nil
}

func openTUN(name string) (*os.File, error) {
	file, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(file), unix.TUNSETIFF, uintptr(unsafe.Pointer(request)))
	if errno != 0 {
		return nil, fmt.Errorf("taking the device %s: %w", name, errno)
	}
	return os.NewFile(uintptr(file), name), nil
}

const (
	headerLen = 20 // of an IPv4 header without options
	icmp      = 1
	echo      = 8
)

// unreachable makes the answer to a packet, or nothing: an ICMP error, a fragment and
// a packet to many are never answered with an error (RFC 1122, 3.2.2).
func unreachable(packet []byte) []byte {
	if len(packet) < headerLen || packet[0]>>4 != 4 {
		return nil
	}
	length := int(packet[0]&0x0f) * 4
	if len(packet) < length+8 || packet[6]&0x1f != 0 || packet[7] != 0 || packet[16] >= 224 {
		return nil
	}
	if packet[9] == icmp && packet[length] != echo {
		return nil
	}
	quoted := packet[:length+8]
	answer := make([]byte, headerLen+8, headerLen+8+len(quoted))
	answer = append(answer, quoted...)

	answer[0] = 0x45
	binary.BigEndian.PutUint16(answer[2:], uint16(len(answer)))
	answer[8], answer[9] = 64, icmp
	source := layout.Provider.As4()
	copy(answer[12:16], source[:])
	copy(answer[16:20], packet[12:16])
	binary.BigEndian.PutUint16(answer[10:], checksum(answer[:headerLen]))

	answer[headerLen], answer[headerLen+1] = 3, 1 // destination unreachable, host
	binary.BigEndian.PutUint16(answer[headerLen+2:], checksum(answer[headerLen:]))
	return answer
}

// checksum is the Internet checksum (RFC 1071).
func checksum(data []byte) uint16 {
	var sum uint32
	for ; len(data) >= 2; data = data[2:] {
		sum += uint32(binary.BigEndian.Uint16(data))
	}
	if len(data) == 1 {
		sum += uint32(data[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
