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
// is unreachable (RFC 792, RFC 4443), through the TUN device that all such packets are routed
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
	headerV4 = 20 // without options
	headerV6 = 40
	icmpV4   = 1
	icmpV6   = 58
	// Echo requests are the only ICMP that is answered with an error.
	echoV4, echoV6 = 8, 128
	fragmentV6     = 44
	// longestV6 is what every link carries: no answer may be longer.
	longestV6 = 1280
)

// unreachable makes the answer to a packet, or nothing: an ICMP error, a fragment and
// a packet to many are never answered with an error (RFC 1122, 3.2.2; RFC 4443, 2.4).
func unreachable(packet []byte) []byte {
	switch {
	case len(packet) >= headerV4 && packet[0]>>4 == 4:
		return unreachableV4(packet)
	case len(packet) >= headerV6+8 && packet[0]>>4 == 6:
		return unreachableV6(packet)
	default:
		return nil
	}
}

func unreachableV4(packet []byte) []byte {
	length := int(packet[0]&0x0f) * 4
	if len(packet) < length+8 || packet[6]&0x1f != 0 || packet[7] != 0 || packet[16] >= 224 {
		return nil
	}
	if packet[9] == icmpV4 && packet[length] != echoV4 {
		return nil
	}
	quoted := packet[:length+8]
	answer := make([]byte, headerV4+8, headerV4+8+len(quoted))
	answer = append(answer, quoted...)

	answer[0] = 0x45
	binary.BigEndian.PutUint16(answer[2:], uint16(len(answer)))
	answer[8], answer[9] = 64, icmpV4
	source := layout.Provider.Addr(true).As4()
	copy(answer[12:16], source[:])
	copy(answer[16:20], packet[12:16])
	binary.BigEndian.PutUint16(answer[10:], checksum(answer[:headerV4]))

	answer[headerV4], answer[headerV4+1] = 3, 1 // destination unreachable, host
	binary.BigEndian.PutUint16(answer[headerV4+2:], checksum(answer[headerV4:]))
	return answer
}

func unreachableV6(packet []byte) []byte {
	sender, target := packet[8:24], packet[24:40]
	if sender[0] == 0xff || target[0] == 0xff || packet[6] == fragmentV6 {
		return nil
	}
	if packet[6] == icmpV6 && packet[headerV6] != echoV6 {
		return nil
	}
	quoted := packet[:min(len(packet), longestV6-headerV6-8)]
	answer := make([]byte, headerV6+8, headerV6+8+len(quoted))
	answer = append(answer, quoted...)

	answer[0] = 0x60
	binary.BigEndian.PutUint16(answer[4:], uint16(len(answer)-headerV6))
	answer[6], answer[7] = icmpV6, 64
	source := layout.Provider.Addr(false).As16()
	copy(answer[8:24], source[:])
	copy(answer[24:40], sender)

	answer[headerV6], answer[headerV6+1] = 1, 3 // destination unreachable, address
	binary.BigEndian.PutUint16(answer[headerV6+2:], checksumV6(answer))
	return answer
}

// checksumV6 is that of an ICMP message, over the pseudo-header too (RFC 8200, 8.1).
func checksumV6(packet []byte) uint16 {
	covered := append([]byte(nil), packet[8:headerV6]...)
	covered = binary.BigEndian.AppendUint32(covered, uint32(len(packet)-headerV6))
	covered = binary.BigEndian.AppendUint32(covered, icmpV6)
	return checksum(append(covered, packet[headerV6:]...))
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
