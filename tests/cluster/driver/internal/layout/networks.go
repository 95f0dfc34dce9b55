package layout

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Networks are the ranges of one purpose, one of each address family. The first one's
// family is the primary one. They are written with commas, as Kubernetes writes them.
type Networks []netip.Prefix

// ParseNetworks reads what String writes.
func ParseNetworks(text string) (Networks, error) {
	var networks Networks
	for part := range strings.SplitSeq(text, ",") {
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, err
		}
		networks = append(networks, prefix)
	}
	return networks, nil
}

func (n Networks) String() string {
	texts := make([]string, len(n))
	for i, prefix := range n {
		texts[i] = prefix.String()
	}
	return strings.Join(texts, ",")
}

// smallest are the narrowest ranges that hold everything that the driver numbers.
func smallest(prefix netip.Prefix) int {
	if prefix.Addr().Is4() {
		return 24
	}
	return 112
}

// validate says what is wrong with them, but for what they have to do with others.
func (n Networks) validate() error {
	if len(n) == 0 {
		return errors.New("a network is needed")
	}
	for i, prefix := range n {
		if !prefix.IsValid() || prefix.Addr().Is4In6() || prefix != prefix.Masked() {
			return fmt.Errorf("%s: a network such as 10.88.0.0/16 or fd00:88::/64 is needed, without host bits", prefix)
		}
		if least := smallest(prefix); prefix.Bits() > least {
			return fmt.Errorf("%s: too small, /%d is the least", prefix, least)
		}
		if i > 1 || i == 1 && prefix.Addr().Is4() == n[0].Addr().Is4() {
			return fmt.Errorf("%s: one network of each address family at most", n)
		}
	}
	return nil
}

func (n Networks) overlaps(other Networks) bool {
	for _, mine := range n {
		for _, theirs := range other {
			if mine.Overlaps(theirs) {
				return true
			}
		}
	}
	return false
}

// families returns the address lengths of the networks, in their order.
func (n Networks) families() []int {
	lengths := make([]int, len(n))
	for i, prefix := range n {
		lengths[i] = prefix.Addr().BitLen()
	}
	return lengths
}

// like returns those of the families that other has, in the order that they have there.
func (n Networks) like(other Networks) Networks {
	var found Networks
	for _, family := range other.families() {
		if i := slices.Index(n.families(), family); i >= 0 {
			found = append(found, n[i])
		}
	}
	return found
}

// Everything returns, for each of the families, the prefix that holds all addresses.
func (n Networks) Everything() Networks {
	all := make(Networks, len(n))
	for i, prefix := range n {
		all[i] = netip.PrefixFrom(prefix.Addr(), 0).Masked()
	}
	return all
}

// Addrs are addresses of one machine, one of each family; written as Networks are.
type Addrs []netip.Addr

func (a Addrs) String() string {
	texts := make([]string, len(a))
	for i, addr := range a {
		texts[i] = addr.String()
	}
	return strings.Join(texts, ",")
}

// hosts returns the addresses with the given number, one within each.
func (n Networks) hosts(number int) Addrs {
	addresses := make(Addrs, len(n))
	for i, prefix := range n {
		addresses[i] = host(prefix, number)
	}
	return addresses
}

// host returns the address of the given number within a network, whose last two bytes
// must have room for it.
func host(network netip.Prefix, number int) netip.Addr {
	bytes := network.Addr().AsSlice()
	last := len(bytes) - 1
	number += int(bytes[last-1])<<8 | int(bytes[last])
	bytes[last-1], bytes[last] = byte(number>>8), byte(number)
	address, _ := netip.AddrFromSlice(bytes)
	return address
}
