// Package layout decides, from a cluster's few parameters, every address, name and
// path that the rest of the driver uses. It does no IO but for the record of a cluster.
package layout

import (
	"fmt"
	"net/netip"
	"regexp"
)

// Config is what the person who brings a cluster up may choose.
type Config struct {
	// Name distinguishes clusters on one machine.
	Name string
	// PodCIDR and ServiceCIDR may be the same in any number of clusters.
	PodCIDR, ServiceCIDR netip.Prefix
	// NodeNet is the LAN that node, laptop and router share.
	NodeNet netip.Prefix
	// NodeHost is the node's host number within NodeNet.
	NodeHost int
	// Domain is the cluster's DNS domain, without a trailing dot.
	Domain string
	// LAN names another cluster whose LAN, laptop and outside world this one
	// shares; empty means that it has its own.
	LAN string
	// Shares are directories, beside the checkout, that the namespaces see as the
	// machine has them.
	Shares []string
}

// The outside world lives in a range reserved for documentation (RFC 5737), so
// that no address of it can mean anything on a real network.
var (
	OutsideResolver = netip.MustParseAddr("198.51.100.53")
	PublicPage      = netip.MustParseAddr("198.51.100.80")
	WikiPage        = netip.MustParseAddr("198.51.100.81")
	IntranetPage    = netip.MustParseAddr("198.51.100.82")
	// Provider is the router further out that reports unreachable addresses.
	Provider = netip.MustParseAddr("198.51.100.1")
)

// Nowhere is the router's device for everything that has no other way.
const Nowhere = "nowhere"

// SearchDomain is the laptop's search domain, as a company's DHCP server would hand it out.
const SearchDomain = "corp.test"

const (
	routerHost = 1
	// FirstNodeHost is the host number of the node of a cluster with its own LAN.
	FirstNodeHost = 10
	laptopHost    = 100
)

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,11}$`)

// Validate says what is wrong with the parameters, in the words of the flags.
func (c *Config) Validate() error {
	if !validName.MatchString(c.Name) {
		return fmt.Errorf("--name %q: a letter, then up to 11 letters, digits or dashes, all lower case", c.Name)
	}
	ranges := []struct {
		flag    string
		prefix  netip.Prefix
		maxBits int
	}{
		{"--pod-cidr", c.PodCIDR, 24},
		{"--service-cidr", c.ServiceCIDR, 24},
		{"--node-net", c.NodeNet, 24},
	}
	for i, r := range ranges {
		if !r.prefix.IsValid() || !r.prefix.Addr().Is4() || r.prefix != r.prefix.Masked() {
			return fmt.Errorf("%s %s: an IPv4 network such as 10.88.0.0/16 is needed, without host bits", r.flag, r.prefix)
		}
		if r.prefix.Bits() > r.maxBits {
			return fmt.Errorf("%s %s: too small, /%d is the least", r.flag, r.prefix, r.maxBits)
		}
		for _, other := range ranges[:i] {
			if r.prefix.Overlaps(other.prefix) {
				return fmt.Errorf("%s %s overlaps %s %s of the same cluster", r.flag, r.prefix, other.flag, other.prefix)
			}
		}
	}
	return nil
}

// host returns the address of the given number within a network.
func host(network netip.Prefix, number int) netip.Addr {
	bytes := network.Addr().As4()
	value := uint32(bytes[0])<<24 | uint32(bytes[1])<<16 | uint32(bytes[2])<<8 | uint32(bytes[3])
	value += uint32(number)
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)})
}

// NodeAddr is where the API server and the node's ports are.
func (c *Config) NodeAddr() netip.Addr { return host(c.NodeNet, c.NodeHost) }

// LaptopAddr is the developer's machine on the LAN.
func (c *Config) LaptopAddr() netip.Addr { return host(c.NodeNet, laptopHost) }

// RouterAddr is the LAN's way to the outside world.
func (c *Config) RouterAddr() netip.Addr { return host(c.NodeNet, routerHost) }

// OnLAN writes an address together with the LAN's prefix length, as `ip addr` wants it.
func (c *Config) OnLAN(addr netip.Addr) string {
	return netip.PrefixFrom(addr, c.NodeNet.Bits()).String()
}

// APIServiceAddr is the address of the Service `kubernetes`: by convention the first.
func (c *Config) APIServiceAddr() netip.Addr { return host(c.ServiceCIDR, 1) }

// DNSServiceAddr is the address of the Service `kube-dns`: by convention the tenth.
func (c *Config) DNSServiceAddr() netip.Addr { return host(c.ServiceCIDR, 10) }

// NodePodCIDR is the part of the pod range that the only node gets. The controller
// manager hands out the lowest part first, so it is known before the node is.
func (c *Config) NodePodCIDR() netip.Prefix {
	return netip.PrefixFrom(c.PodCIDR.Addr(), 24)
}

// NodeName is the node's name in Kubernetes.
func (c *Config) NodeName() string { return c.Name + "-node" }

// APIServerURL is the API server as the LAN sees it.
func (c *Config) APIServerURL() string { return fmt.Sprintf("https://%s:6443", c.NodeAddr()) }

// HasLAN says whether the cluster has a LAN, laptop and outside world of its own.
func (c *Config) HasLAN() bool { return c.LAN == "" }

// Roles are the namespaces that the cluster consists of.
func (c *Config) Roles() []Role {
	if c.HasLAN() {
		return []Role{LAN, Node, Laptop, Outside}
	}
	return []Role{Node}
}
