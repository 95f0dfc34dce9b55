// Package outside is the world beyond the LAN's router, as far as tests need one: a
// resolver that knows three names, and the three web pages they lead to.
package outside

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"

	"kdev.test/cluster/driver/internal/layout"
)

// site is a web page and the name under which the resolver knows it.
type site struct {
	name  string
	place layout.Place
	page  string
	text  string
}

var sites = []site{
	{name: "www.public.test.", place: layout.PublicPage, page: "public page\n", text: "public text"},
	{name: "wiki." + layout.SearchDomain + ".", place: layout.WikiPage, page: "corporate wiki\n"},
	// A name of one label, as some companies have them.
	{name: "intranet.", place: layout.IntranetPage, page: "corporate intranet\n"},
}

// Serve answers until it fails. It must run in the outside namespace; ready is called
// when all sockets listen.
func Serve(paths layout.Paths, config *layout.Config, ready func()) error {
	log, err := os.OpenFile(paths.OutsideLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	failed := make(chan error)
	resolver := &resolver{log: log, lan: config.NodeNets}
	for _, address := range layout.OutsideResolver.Addrs(config.NodeNets) {
		endpoint := netip.AddrPortFrom(address, 53)
		packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(endpoint))
		if err != nil {
			return err
		}
		streams, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(endpoint))
		if err != nil {
			return err
		}
		go func() { failed <- resolver.servePackets(packets) }()
		go func() { failed <- resolver.serveStreams(streams) }()
	}
	nowhere, err := answerForNowhere()
	if err != nil {
		return err
	}
	go func() { failed <- nowhere() }()
	for _, site := range sites {
		page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprint(w, site.page)
		})
		for _, address := range site.place.Addrs(config.NodeNets) {
			listener, err := net.Listen("tcp", netip.AddrPortFrom(address, 80).String())
			if err != nil {
				return err
			}
			go func() { failed <- http.Serve(listener, page) }()
		}
	}
	ready()
	return <-failed
}
