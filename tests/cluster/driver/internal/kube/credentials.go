// Package kube knows Kubernetes: which credentials, configuration files and flags its
// components need, in which order they start, and when they are ready.
package kube

import (
	"errors"
	"net"
	"os"

	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/pki"
)

// Users of the kubeconfigs that every cluster has. The driver is a user of its own,
// so that the audit log can leave out what it does.
const (
	adminUser  = "admin"
	driverUser = "kdev-cluster"
)

// WriteCredentials makes all keys, certificates and kubeconfigs of a new cluster.
func WriteCredentials(paths layout.Paths, config *layout.Config) error {
	dir := paths.PKI("")
	ca, caPair, err := pki.NewAuthority("kubernetes-ca")
	if err != nil {
		return err
	}
	front, frontPair, err := pki.NewAuthority("front-proxy-ca")
	if err != nil {
		return err
	}
	if err := errors.Join(
		caPair.Write(dir, "ca"),
		frontPair.Write(dir, "front-proxy-ca"),
		pki.WriteSigningKey(dir, "service-accounts"),
		issue(front, dir, "front-proxy", pki.Subject{Name: "front-proxy"}),
		issue(ca, dir, "kubelet-client", pki.Subject{Name: "kube-apiserver", Groups: []string{"system:masters"}}),
		issue(ca, dir, "apiserver", apiserverSubject(config)),
		issue(ca, dir, "kubelet", pki.Subject{
			Name: "system:node:" + config.NodeName(), Groups: []string{"system:nodes"},
			Hosts: []string{config.NodeName()}, Addresses: ipsOf(config.NodeAddrs()),
		}),
	); err != nil {
		return err
	}
	users := map[string]pki.Subject{
		"admin":              {Name: adminUser, Groups: []string{"system:masters"}},
		"kdev-cluster":       {Name: driverUser, Groups: []string{"system:masters"}},
		"controller-manager": {Name: "system:kube-controller-manager"},
		"scheduler":          {Name: "system:kube-scheduler"},
		"kube-proxy":         {Name: "system:kube-proxy"},
		"node":               {Name: "system:node:" + config.NodeName(), Groups: []string{"system:nodes"}},
	}
	for file, subject := range users {
		if err := writeKubeconfig(paths, config, ca, file, subject); err != nil {
			return err
		}
	}
	return nil
}

func apiserverSubject(config *layout.Config) pki.Subject {
	return pki.Subject{
		Name: "kube-apiserver",
		Hosts: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc." + config.Domain, "localhost", config.NodeName(),
		},
		Addresses: append(ipsOf(config.NodeAddrs()),
			config.APIServiceAddr().AsSlice(), net.IPv4(127, 0, 0, 1), net.IPv6loopback),
	}
}

func ipsOf(addrs layout.Addrs) []net.IP {
	ips := make([]net.IP, len(addrs))
	for i, addr := range addrs {
		ips[i] = addr.AsSlice()
	}
	return ips
}

func issue(authority *pki.Authority, dir, file string, subject pki.Subject) error {
	pair, err := authority.Issue(subject)
	if err != nil {
		return err
	}
	return pair.Write(dir, file)
}

// writeKubeconfig leaves the file readable for everyone: the laptop's users are
// meant to have it, and the cluster guards nothing.
func writeKubeconfig(paths layout.Paths, config *layout.Config, ca *pki.Authority, file string, subject pki.Subject) error {
	pair, err := ca.Issue(subject)
	if err != nil {
		return err
	}
	content := pki.Kubeconfig(config.Name, config.APIServerURL(), ca.PEM, subject.Name, pair)
	return os.WriteFile(paths.Kubeconfig(file), content, 0o644)
}

// UserKubeconfig makes a kubeconfig for an ordinary user, who has the rights that
// RBAC gives to that name and those groups and no others. It returns the file's path.
func UserKubeconfig(paths layout.Paths, config *layout.Config, user string, groups []string) (string, error) {
	ca, err := pki.LoadAuthority(paths.PKI(""), "ca")
	if err != nil {
		return "", err
	}
	// A person named like a component must not replace that component's file.
	file := "user-" + user
	return paths.Kubeconfig(file), writeKubeconfig(paths, config, ca, file, pki.Subject{Name: user, Groups: groups})
}
