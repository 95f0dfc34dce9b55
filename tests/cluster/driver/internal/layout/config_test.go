package layout

import (
	"fmt"
	"strings"
	"testing"
)

func parsed(text string) Networks {
	networks, err := ParseNetworks(text)
	if err != nil {
		panic(err)
	}
	return networks
}

func usual(family string) Config {
	pods, services, nodes, err := UsualNetworks(family)
	if err != nil {
		panic(err)
	}
	return Config{
		Name: "a", NodeHost: FirstNodeHost,
		PodCIDRs: parsed(pods), ServiceCIDRs: parsed(services), NodeNets: parsed(nodes),
	}
}

func TestAddressesFollowFromTheNetworks(t *testing.T) {
	ipv4, dual, ipv6 := usual("ipv4"), usual("dual"), usual("ipv6")
	onDualLAN := ipv6
	onDualLAN.NodeNets = dual.NodeNets
	for what, pair := range map[string][2]string{
		"node":                  {ipv4.NodeAddrs().String(), "10.88.0.10"},
		"laptop":                {ipv4.LaptopAddrs().String(), "10.88.0.100"},
		"router":                {ipv4.RouterAddrs().String(), "10.88.0.1"},
		"API":                   {ipv4.APIServiceAddr().String(), "10.96.0.1"},
		"DNS":                   {ipv4.DNSServiceAddr().String(), "10.96.0.10"},
		"node pod":              {ipv4.NodePodCIDRs().String(), "10.244.0.0/24"},
		"on LAN":                {fmt.Sprint(ipv4.OnLAN(ipv4.NodeAddrs())), "[10.88.0.10/24]"},
		"API server":            {ipv4.APIServerURL(), "https://10.88.0.10:6443"},
		"resolver":              {ipv4.OutsideResolver().String(), "198.51.100.53"},
		"dual node":             {dual.NodeAddrs().String(), "10.88.0.10,fd00:10:88::a"},
		"dual API":              {dual.APIServiceAddr().String(), "10.96.0.1"},
		"dual node pods":        {dual.NodePodCIDRs().String(), "10.244.0.0/24,fd00:10:244::/64"},
		"dual on LAN":           {fmt.Sprint(dual.OnLAN(dual.NodeAddrs())), "[10.88.0.10/24 fd00:10:88::a/64]"},
		"IPv6 API server":       {ipv6.APIServerURL(), "https://[fd00:10:88::a]:6443"},
		"IPv6 DNS":              {ipv6.DNSServiceAddr().String(), "fd00:10:96::a"},
		"IPv6 laptop":           {ipv6.LaptopAddrs().String(), "fd00:10:88::64"},
		"IPv6 resolver":         {ipv6.OutsideResolver().String(), "2001:db8:100::53"},
		"IPv6 node on dual LAN": {onDualLAN.NodeAddrs().String(), "fd00:10:88::a"},
		"IPv6 way out":          {ipv6.PodCIDRs.Everything().String(), "::/0"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %s, not %s", what, pair[0], pair[1])
		}
	}
}

func TestParametersThatCannotWorkAreRefusedByName(t *testing.T) {
	for _, test := range []struct {
		change func(*Config)
		says   string
	}{
		{func(c *Config) { c.Name = "A" }, "--name"},
		{func(c *Config) { c.Name = "much-too-long" }, "--name"},
		{func(c *Config) { c.PodCIDRs = parsed("10.244.0.1/16") }, "--pod-cidr"},
		{func(c *Config) { c.PodCIDRs = nil }, "--pod-cidr"},
		{func(c *Config) { c.ServiceCIDRs = parsed("fd00::/112") }, "--service-cidr"},
		{func(c *Config) { c.NodeNets = parsed("fd00::/64") }, "--node-net"},
		{func(c *Config) { c.NodeNets = parsed("10.88.0.0/28") }, "too small"},
		{func(c *Config) { c.NodeNets = parsed("10.88.0.0/24,10.89.0.0/24") }, "one network of each"},
		{func(c *Config) { c.PodCIDRs = parsed("10.244.0.0/16,fd00::/64") }, "order"},
		{func(c *Config) { c.ServiceCIDRs = c.PodCIDRs }, "overlaps"},
	} {
		config := usual("ipv4")
		test.change(&config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v, wanted something about %q", config, err, test.says)
		}
	}
	for _, family := range []string{"ipv4", "ipv6", "dual"} {
		config := usual(family)
		if err := config.Validate(); err != nil {
			t.Error(family, err)
		}
	}
	if _, _, _, err := UsualNetworks("ipx"); err == nil {
		t.Error("ipx is known")
	}
}

func TestGroupsOfTwoStateRootsDiffer(t *testing.T) {
	usual, _ := NewPaths(DefaultStateRoot, "a")
	other, _ := NewPaths("/tmp/elsewhere", "a")
	if usual.CgroupName() == other.CgroupName() {
		t.Error("both are", usual.CgroupName())
	}
}
