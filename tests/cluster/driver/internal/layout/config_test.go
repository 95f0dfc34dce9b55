package layout

import (
	"net/netip"
	"strings"
	"testing"
)

func usual() Config {
	return Config{
		Name: "a", NodeHost: FirstNodeHost,
		PodCIDR:     netip.MustParsePrefix("10.244.0.0/16"),
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
		NodeNet:     netip.MustParsePrefix("10.88.0.0/24"),
	}
}

func TestAddressesFollowFromTheNetworks(t *testing.T) {
	config := usual()
	for what, pair := range map[string][2]string{
		"node":     {config.NodeAddr().String(), "10.88.0.10"},
		"laptop":   {config.LaptopAddr().String(), "10.88.0.100"},
		"router":   {config.RouterAddr().String(), "10.88.0.1"},
		"API":      {config.APIServiceAddr().String(), "10.96.0.1"},
		"DNS":      {config.DNSServiceAddr().String(), "10.96.0.10"},
		"node pod": {config.NodePodCIDR().String(), "10.244.0.0/24"},
		"on LAN":   {config.OnLAN(config.NodeAddr()), "10.88.0.10/24"},
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
		{func(c *Config) { c.PodCIDR = netip.MustParsePrefix("10.244.0.1/16") }, "--pod-cidr"},
		{func(c *Config) { c.ServiceCIDR = netip.MustParsePrefix("fd00::/64") }, "--service-cidr"},
		{func(c *Config) { c.NodeNet = netip.MustParsePrefix("10.88.0.0/28") }, "too small"},
		{func(c *Config) { c.ServiceCIDR = c.PodCIDR }, "overlaps"},
	} {
		config := usual()
		test.change(&config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v, wanted something about %q", config, err, test.says)
		}
	}
	config := usual()
	if err := config.Validate(); err != nil {
		t.Error(err)
	}
}

func TestGroupsOfTwoStateRootsDiffer(t *testing.T) {
	usual, _ := NewPaths(DefaultStateRoot, "a")
	other, _ := NewPaths("/tmp/elsewhere", "a")
	if usual.CgroupName() == other.CgroupName() {
		t.Error("both are", usual.CgroupName())
	}
}
