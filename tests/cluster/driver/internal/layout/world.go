package layout

import "net/netip"

// Place is somewhere in the outside world, with an address of each family. They are
// from ranges reserved for documentation (RFC 5737, RFC 3849), so that none of them can
// mean anything on a real network.
type Place struct{ v4, v6 netip.Addr }

func place(v4, v6 string) Place { return Place{netip.MustParseAddr(v4), netip.MustParseAddr(v6)} }

// What there is in the outside world.
var (
	OutsideResolver = place("198.51.100.53", "2001:db8:100::53")
	PublicPage      = place("198.51.100.80", "2001:db8:100::80")
	WikiPage        = place("198.51.100.81", "2001:db8:100::81")
	IntranetPage    = place("198.51.100.82", "2001:db8:100::82")
	// Provider is the router further out that reports unreachable addresses.
	Provider = place("198.51.100.1", "2001:db8:100::1")
)

// Addrs are the place's addresses of the families that the LAN has, in the LAN's order.
func (p Place) Addrs(lan Networks) Addrs {
	addrs := make(Addrs, len(lan))
	for i, network := range lan {
		addrs[i] = p.Addr(network.Addr().Is4())
	}
	return addrs
}

// Addr is the address of one family.
func (p Place) Addr(v4 bool) netip.Addr {
	if v4 {
		return p.v4
	}
	return p.v6
}
