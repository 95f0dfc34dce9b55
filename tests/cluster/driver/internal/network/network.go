// Package network lays the cables between a cluster's namespaces: a LAN with a
// bridge, on it the node, the laptop, and a router to the outside world.
package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/namespace"
)

// Port plugs a namespace into the LAN's bridge with addresses on eth0. label names the
// bridge's side, at most 15 bytes.
func Port(lan, member *layout.Namespace, label string, addresses []string) error {
	if err := ip(lan, []string{
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", label, member.Keeper.PID),
		"link set " + label + " master lan up",
	}); err != nil {
		return err
	}
	commands := []string{"link set lo up"}
	for _, address := range addresses {
		// IPv6 would first look, for a second or two, whether somebody else has it.
		commands = append(commands, "addr add "+address+" dev eth0 nodad")
	}
	return ip(member, append(commands, "link set eth0 up"))
}

// Unplug removes the bridge's side of a port, if it is there.
func Unplug(lan *layout.Namespace, label string) {
	_ = ip(lan, []string{"link del " + label})
}

// LAN makes the bridge itself.
func LAN(lan *layout.Namespace) error {
	return ip(lan, []string{"link set lo up", "link add lan type bridge", "link set lan up"})
}

// ViaRouter makes the router a namespace's way to everything that isn't on the LAN.
func ViaRouter(config *layout.Config, member *layout.Namespace) error {
	var commands []string
	for _, router := range config.RouterAddrs() {
		commands = append(commands, fmt.Sprintf("route add default via %s", router))
	}
	return ip(member, commands)
}

// Outside gives the outside world its addresses, each alone, and sends everything else
// nowhere, where the outside program answers that it is unreachable: who asks for a
// pod or a service from the wrong place is told so at once.
func Outside(config *layout.Config, outside *layout.Namespace) error {
	var commands []string
	for _, place := range []layout.Place{
		layout.OutsideResolver, layout.PublicPage, layout.WikiPage, layout.IntranetPage,
	} {
		for _, address := range place.Addrs(config.NodeNets) {
			alone := netip.PrefixFrom(address, address.BitLen())
			commands = append(commands, fmt.Sprintf("addr add %s dev lo nodad", alone))
		}
	}
	commands = append(commands,
		"tuntap add dev "+layout.Nowhere+" mode tun",
		"link set "+layout.Nowhere+" up")
	for _, everything := range config.NodeNets.Everything() {
		commands = append(commands, fmt.Sprintf("route add %s dev %s", everything, layout.Nowhere))
	}
	return ip(outside, commands)
}

// Masquerade hides the pods behind the node's addresses when they leave it; nothing
// on the LAN knows a way back to them.
func Masquerade(config *layout.Config, node *layout.Namespace) error {
	var rules strings.Builder
	for _, pods := range config.PodCIDRs {
		family := "ip"
		if pods.Addr().Is6() {
			family = "ip6"
		}
		fmt.Fprintf(&rules, `table %[1]s kdev-cluster {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		%[1]s saddr %[2]s oifname "eth0" masquerade
	}
}
`, family, pods)
	}
	return within(node, rules.String(), "nft", "-f", "-")
}

func ip(where *layout.Namespace, commands []string) error {
	return within(where, strings.Join(commands, "\n")+"\n", "ip", "-batch", "-")
}

// within runs a program in a namespace with the given input.
func within(where *layout.Namespace, input string, argv ...string) error {
	command, err := namespace.Command(where.Keeper.PID, argv...)
	if err != nil {
		return err
	}
	command.Stdin = strings.NewReader(input)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s in the %s namespace: %w\n%s\ninput was:\n%s",
			strings.Join(argv, " "), where.Role, err, output.String(), input)
	}
	return nil
}
