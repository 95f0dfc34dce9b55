package outside

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"kdev.test/cluster/driver/internal/layout"
)

// Short lifetimes, so that no cache on the way hides from the log that a name was asked for.
const (
	positiveTTL = 1
	negativeTTL = 1
)

type resolver struct {
	log *os.File
	// lan tells of which address families there are addresses.
	lan layout.Networks
}

func (r *resolver) servePackets(packets *net.UDPConn) error {
	buffer := make([]byte, 64*1024)
	for {
		n, from, err := packets.ReadFromUDP(buffer)
		if err != nil {
			return err
		}
		if answer, err := r.answer(buffer[:n]); err == nil {
			_, _ = packets.WriteToUDP(answer, from)
		}
	}
}

func (r *resolver) serveStreams(streams *net.TCPListener) error {
	for {
		stream, err := streams.AcceptTCP()
		if err != nil {
			return err
		}
		go r.serveStream(stream)
	}
}

// serveStream reads messages with two bytes of length before each (RFC 1035, 4.2.2).
func (r *resolver) serveStream(stream *net.TCPConn) {
	defer stream.Close()
	for {
		_ = stream.SetDeadline(time.Now().Add(30 * time.Second))
		var length uint16
		if binary.Read(stream, binary.BigEndian, &length) != nil {
			return
		}
		query := make([]byte, length)
		if _, err := io.ReadFull(stream, query); err != nil {
			return
		}
		answer, err := r.answer(query)
		if err != nil {
			return
		}
		framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)
		if _, err := stream.Write(framed); err != nil {
			return
		}
	}
}

// answer logs a query and answers it.
func (r *resolver) answer(query []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil {
		return nil, err
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	if header.Response {
		return nil, errors.New("not a query")
	}
	r.record(question)
	known := find(question.Name.String())
	header = dnsmessage.Header{
		ID: header.ID, Response: true, Authoritative: true,
		RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
	}
	if known == nil {
		header.RCode = dnsmessage.RCodeNameError
	}
	return r.build(header, question, known, hasEDNS(query))
}

// record writes one line: when, which name, which type.
func (r *resolver) record(question dnsmessage.Question) {
	name := question.Name.String()
	if name != "." {
		name = strings.TrimSuffix(name, ".")
	}
	kind := strings.TrimPrefix(question.Type.String(), "Type")
	fmt.Fprintf(r.log, "%s %s %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), name, kind)
}

func find(name string) *site {
	for i := range sites {
		if strings.EqualFold(sites[i].name, name) {
			return &sites[i]
		}
	}
	return nil
}

func hasEDNS(query []byte) bool {
	var message dnsmessage.Message
	if message.Unpack(query) != nil {
		return false
	}
	for _, additional := range message.Additionals {
		if additional.Header.Type == dnsmessage.TypeOPT {
			return true
		}
	}
	return false
}

func (r *resolver) build(header dnsmessage.Header, question dnsmessage.Question, known *site, edns bool) ([]byte, error) {
	message := dnsmessage.Message{Header: header, Questions: []dnsmessage.Question{question}}
	resource := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: positiveTTL}
	if known != nil {
		for _, body := range r.records(question.Type, known) {
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: resource, Body: body})
		}
	}
	if len(message.Answers) == 0 {
		message.Authorities = []dnsmessage.Resource{startOfAuthority()}
	}
	if edns {
		var options dnsmessage.ResourceHeader
		if err := options.SetEDNS0(1232, header.RCode, false); err != nil {
			return nil, err
		}
		message.Additionals = []dnsmessage.Resource{{Header: options, Body: &dnsmessage.OPTResource{}}}
	}
	return message.Pack()
}

// records are what a site has of a type.
func (r *resolver) records(kind dnsmessage.Type, known *site) []dnsmessage.ResourceBody {
	var bodies []dnsmessage.ResourceBody
	for _, address := range known.place.Addrs(r.lan) {
		switch {
		case kind == dnsmessage.TypeA && address.Is4():
			bodies = append(bodies, &dnsmessage.AResource{A: address.As4()})
		case kind == dnsmessage.TypeAAAA && address.Is6():
			bodies = append(bodies, &dnsmessage.AAAAResource{AAAA: address.As16()})
		}
	}
	if kind == dnsmessage.TypeTXT && known.text != "" {
		bodies = append(bodies, &dnsmessage.TXTResource{TXT: []string{known.text}})
	}
	return bodies
}

// startOfAuthority comes with every "no", and says how long it may be believed (RFC 2308).
func startOfAuthority() dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{
			Name: dnsmessage.MustNewName("."), Class: dnsmessage.ClassINET, TTL: negativeTTL,
		},
		Body: &dnsmessage.SOAResource{
			NS:   dnsmessage.MustNewName("resolver.outside.test."),
			MBox: dnsmessage.MustNewName("nobody.outside.test."), Serial: 1,
			Refresh: 3600, Retry: 600, Expire: 86400, MinTTL: negativeTTL,
		},
	}
}
