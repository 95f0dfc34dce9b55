package pki

import (
	"encoding/base64"
	"fmt"
)

// Kubeconfig writes a self-contained kubeconfig whose context has the cluster's name.
// Names are quoted: YAML takes a cluster called y for a boolean.
func Kubeconfig(cluster, server string, ca []byte, user string, pair Pair) []byte {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: %[1]q
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
users:
- name: %[4]q
  user:
    client-certificate-data: %[5]s
    client-key-data: %[6]s
contexts:
- name: %[1]q
  context:
    cluster: %[1]q
    user: %[4]q
current-context: %[1]q
`, cluster, server, encode(ca), user, encode(pair.Certificate), encode(pair.Key))
}
