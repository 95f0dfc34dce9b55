package outside

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"kdev.test/cluster/driver/internal/layout"
)

func TestResolverKnowsThreeNames(t *testing.T) {
	for _, test := range []struct {
		name    string
		kind    dnsmessage.Type
		rcode   dnsmessage.RCode
		answers int
	}{
		{"www.public.test.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, 1},
		{"WWW.Public.Test.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, 1},
		{"www.public.test.", dnsmessage.TypeTXT, dnsmessage.RCodeSuccess, 1},
		{"www.public.test.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, 0},
		{"wiki.corp.test.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, 1},
		{"intranet.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, 1},
		{"wiki.", dnsmessage.TypeA, dnsmessage.RCodeNameError, 0},
		{"web.demo.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, 0},
	} {
		answer, _ := asked(t, "10.88.0.0/24", test.name, test.kind)
		if answer.RCode != test.rcode || len(answer.Answers) != test.answers {
			t.Errorf("%s %s: %s with %d answers", test.name, test.kind, answer.RCode, len(answer.Answers))
		}
		if test.answers == 0 && len(answer.Authorities) != 1 {
			t.Errorf("%s %s: a no without SOA may be believed for any time", test.name, test.kind)
		}
	}
}

func TestEveryQueryIsOneLineOfTheLog(t *testing.T) {
	_, log := asked(t, "10.88.0.0/24", "nosuch.test.", dnsmessage.TypeAAAA)
	if fields := strings.Fields(log); len(fields) != 3 || fields[1] != "nosuch.test" || fields[2] != "AAAA" {
		t.Errorf("%q", log)
	}
}

func TestNamesHaveAddressesOfTheFamiliesThatTheLANHas(t *testing.T) {
	for _, test := range []struct {
		lan   string
		kind  dnsmessage.Type
		wants int
	}{
		{"10.88.0.0/24,fd00:88::/64", dnsmessage.TypeA, 1},
		{"10.88.0.0/24,fd00:88::/64", dnsmessage.TypeAAAA, 1},
		{"fd00:88::/64", dnsmessage.TypeA, 0},
		{"fd00:88::/64", dnsmessage.TypeAAAA, 1},
	} {
		answer, _ := asked(t, test.lan, "www.public.test.", test.kind)
		if len(answer.Answers) != test.wants {
			t.Errorf("%s %s: %d answers", test.lan, test.kind, len(answer.Answers))
		}
	}
}

func TestUnreachableIsAnsweredOverIPv6Too(t *testing.T) {
	answer := unreachable(syn6)
	if answer == nil {
		t.Fatal("no answer")
	}
	if string(answer[24:40]) != string(syn6[8:24]) || answer[40] != 1 || string(answer[48:]) != string(syn6) {
		t.Errorf("% x", answer)
	}
	if checksumV6(answer) != 0 {
		t.Error("the checksum is wrong")
	}
	for what, change := range map[string]func(packet []byte){
		"an ICMP error": func(packet []byte) { packet[6], packet[40] = icmpV6, 1 },
		"a fragment":    func(packet []byte) { packet[6] = fragmentV6 },
		"a multicast":   func(packet []byte) { packet[24] = 0xff },
	} {
		packet := append([]byte(nil), syn6...)
		change(packet)
		if unreachable(packet) != nil {
			t.Error(what, "was answered")
		}
	}
}

func TestUnreachableIsAnsweredToTheSenderWithItsPacketQuoted(t *testing.T) {
	answer := unreachable(syn)
	if answer == nil {
		t.Fatal("no answer")
	}
	if got := answer[16:20]; string(got) != string(syn[12:16]) {
		t.Errorf("it goes to %v", got)
	}
	if answer[20] != 3 || answer[21] != 1 || string(answer[28:]) != string(syn[:28]) {
		t.Errorf("% x", answer)
	}
	if checksum(answer[:20]) != 0 || checksum(answer[20:]) != 0 {
		t.Error("a checksum is wrong")
	}
}

func TestErrorsFragmentsAndBroadcastsGetNoError(t *testing.T) {
	for what, change := range map[string]func(packet []byte){
		"an ICMP error":   func(packet []byte) { packet[9], packet[20] = icmpV4, 3 },
		"a fragment":      func(packet []byte) { packet[7] = 1 },
		"a multicast":     func(packet []byte) { packet[16] = 224 },
		"a torn off IPv6": func(packet []byte) { packet[0] = 0x60 },
		"a torn off head": func(packet []byte) { packet[0] = 0x4f },
	} {
		packet := append([]byte(nil), syn...)
		change(packet)
		if unreachable(packet) != nil {
			t.Error(what, "was answered")
		}
	}
}

// syn is the beginning of a connection from 10.88.0.100 to 10.96.0.10, port 80.
var syn = []byte{
	0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 88, 0, 100, 10, 96, 0, 10,
	0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
}

// syn6 is the same from fd00:88::64 to fd00:96::a.
var syn6 = append([]byte{
	0x60, 0, 0, 0, 0, 20, 6, 64,
	0xfd, 0, 0, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x64,
	0xfd, 0, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa,
}, syn[20:]...)

// asked is the resolver's answer on a LAN, and what it wrote to its log.
func asked(t *testing.T, lan, name string, kind dnsmessage.Type) (dnsmessage.Message, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	query := dnsmessage.Message{
		Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET,
		}},
	}
	packed, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	networks, err := layout.ParseNetworks(lan)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := (&resolver{log: log, lan: networks}).answer(packed)
	if err != nil {
		t.Fatal(err)
	}
	var answer dnsmessage.Message
	if err := answer.Unpack(reply); err != nil {
		t.Fatal(err)
	}
	line, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(line)
}
