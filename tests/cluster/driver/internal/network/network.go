// Package network lays the cables between a cluster's namespaces: a LAN with a
// bridge, on it the node, the laptop, and a router to the outside world.
package network

import (
	"bytes"
	"fmt"
	"strings"

	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/namespace"
)

// Port plugs a namespace into the LAN's bridge with an address on eth0. label names
// the bridge's side, at most 15 bytes.
func Port(lan, member *layout.Namespace, label, address string) error {
	if err := ip(lan, []string{
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", label, member.Keeper.PID),
		"link set " + label + " master lan up",
	}); err != nil {
		return err
	}
	return ip(member, []string{
		"link set lo up",
		"addr add " + address + " dev eth0",
		"link set eth0 up",
	})
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
	return ip(member, []string{fmt.Sprintf("route add default via %s", config.RouterAddr())})
}

// Outside gives the outside world its addresses, each alone, and sends everything else
// nowhere, where the outside program answers that it is unreachable: who asks for a
// pod or a service from the wrong place is told so at once.
func Outside(outside *layout.Namespace) error {
	return ip(outside, []string{
		fmt.Sprintf("addr add %s/32 dev lo", layout.OutsideResolver),
		fmt.Sprintf("addr add %s/32 dev lo", layout.PublicPage),
		fmt.Sprintf("addr add %s/32 dev lo", layout.WikiPage),
		fmt.Sprintf("addr add %s/32 dev lo", layout.IntranetPage),
		"tuntap add dev " + layout.Nowhere + " mode tun",
		"link set " + layout.Nowhere + " up",
		"route add default dev " + layout.Nowhere,
	})
}

// Masquerade hides the pods behind the node's address when they leave it; nothing
// on the LAN knows a way back to them.
func Masquerade(config *layout.Config, node *layout.Namespace) error {
	rules := fmt.Sprintf(`table ip kdev-cluster {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		ip saddr %s oifname "eth0" masquerade
	}
}
`, config.PodCIDR)
	return within(node, rules, "nft", "-f", "-")
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
