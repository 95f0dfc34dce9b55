// Package layout decides, from a cluster's few parameters, every address, name and
// path that the rest of the driver uses. It does no IO but for the record of a cluster.
package layout

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
)

// Config is what the person who brings a cluster up may choose.
type Config struct {
	// Name distinguishes clusters on one machine.
	Name string
	// PodCIDRs and ServiceCIDRs may be the same in any number of clusters. They are of
	// the same families, and of these the cluster is.
	PodCIDRs, ServiceCIDRs Networks
	// NodeNets is the LAN that node, laptop and router share.
	NodeNets Networks
	// NodeHost is the node's host number within NodeNets.
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

// The addresses that --ip-family stands for.
var families = map[string][3]string{
	"ipv4": {"10.244.0.0/16", "10.96.0.0/16", "10.88.0.0/24"},
	"ipv6": {"fd00:10:244::/56", "fd00:10:96::/112", "fd00:10:88::/64"},
	"dual": {"10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/16,fd00:10:96::/112", "10.88.0.0/24,fd00:10:88::/64"},
}

// UsualNetworks are the networks of pods, services and nodes for ipv4, ipv6 or dual.
func UsualNetworks(family string) (pods, services, nodes string, err error) {
	usual, known := families[family]
	if !known {
		return "", "", "", fmt.Errorf("--ip-family %s: ipv4, ipv6 or dual is needed", family)
	}
	return usual[0], usual[1], usual[2], nil
}

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
		flag     string
		networks Networks
	}{
		{"--pod-cidr", c.PodCIDRs},
		{"--service-cidr", c.ServiceCIDRs},
		{"--node-net", c.NodeNets},
	}
	for i, r := range ranges {
		if err := r.networks.validate(); err != nil {
			return fmt.Errorf("%s %w", r.flag, err)
		}
		for _, other := range ranges[:i] {
			if r.networks.overlaps(other.networks) {
				return fmt.Errorf("%s %s overlaps %s %s of the same cluster", r.flag, r.networks, other.flag, other.networks)
			}
		}
	}
	pods := c.PodCIDRs.families()
	if !slices.Equal(c.ServiceCIDRs.families(), pods) {
		return fmt.Errorf("--service-cidr %s: the address families of --pod-cidr %s are needed, in the same order", c.ServiceCIDRs, c.PodCIDRs)
	}
	if !slices.Equal(c.NodeNets.like(c.PodCIDRs).families(), pods) {
		return fmt.Errorf("--node-net %s: the address families of --pod-cidr %s are needed", c.NodeNets, c.PodCIDRs)
	}
	return nil
}

// NodeLANAddrs are all addresses of the node.
func (c *Config) NodeLANAddrs() Addrs { return c.NodeNets.hosts(c.NodeHost) }

// NodeAddrs are those of the cluster's families, the primary one first.
func (c *Config) NodeAddrs() Addrs {
	return c.NodeNets.like(c.PodCIDRs).hosts(c.NodeHost)
}

// NodeAddr is where the API server is.
func (c *Config) NodeAddr() netip.Addr { return c.NodeAddrs()[0] }

// LaptopAddrs are the developer's machine on the LAN.
func (c *Config) LaptopAddrs() Addrs { return c.NodeNets.hosts(laptopHost) }

// RouterAddrs are the LAN's way to the outside world.
func (c *Config) RouterAddrs() Addrs { return c.NodeNets.hosts(routerHost) }

// OnLAN writes addresses together with the LAN's prefix lengths, as `ip addr` wants it.
func (c *Config) OnLAN(addrs Addrs) []string {
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		for _, network := range c.NodeNets {
			if network.Contains(addr) {
				texts[i] = netip.PrefixFrom(addr, network.Bits()).String()
			}
		}
	}
	return texts
}

// APIServiceAddr is the address of the Service `kubernetes`: by convention the first of
// the primary family.
func (c *Config) APIServiceAddr() netip.Addr { return c.ServiceCIDRs.hosts(1)[0] }

// DNSServiceAddr is the address of the Service `kube-dns`: by convention the tenth of
// the primary family, the only one that it has.
func (c *Config) DNSServiceAddr() netip.Addr { return c.ServiceCIDRs.hosts(10)[0] }

// OutsideResolver is where pods, node and laptop ask for names.
func (c *Config) OutsideResolver() netip.Addr { return OutsideResolver.Addrs(c.PodCIDRs)[0] }

// HasIPv6 says whether there is any IPv6 on the LAN.
func (c *Config) HasIPv6() bool { return slices.Contains(c.NodeNets.families(), 128) }

// NodePodCIDRs are the parts of the pod ranges that the only node gets. The controller
// manager hands out the lowest part first, so they are known before the node is.
func (c *Config) NodePodCIDRs() Networks {
	parts := make(Networks, len(c.PodCIDRs))
	for i, prefix := range c.PodCIDRs {
		bits := 24
		if prefix.Addr().Is6() {
			bits = max(64, prefix.Bits())
		}
		parts[i] = netip.PrefixFrom(prefix.Addr(), bits)
	}
	return parts
}

// NodeName is the node's name in Kubernetes.
func (c *Config) NodeName() string { return c.Name + "-node" }

// APIServerURL is the API server as the LAN sees it.
func (c *Config) APIServerURL() string {
	return "https://" + netip.AddrPortFrom(c.NodeAddr(), 6443).String()
}

// HasLAN says whether the cluster has a LAN, laptop and outside world of its own.
func (c *Config) HasLAN() bool { return c.LAN == "" }

// Roles are the namespaces that the cluster consists of.
func (c *Config) Roles() []Role {
	if c.HasLAN() {
		return []Role{LAN, Node, Laptop, Outside}
	}
	return []Role{Node}
}
