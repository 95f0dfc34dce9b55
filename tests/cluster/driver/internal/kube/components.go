package kube

import (
	"fmt"
	"path/filepath"

	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/supervise"
)

// Names of the components, which are also the names of their log files.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kubelet           = "kubelet"
	Proxy             = "kube-proxy"
	Containerd        = "containerd"
)

// Components returns what runs on the node, to be started within the keeper's namespaces.
func Components(paths layout.Paths, config *layout.Config, keeper int, tools string) map[string]supervise.Spec {
	kubernetes := filepath.Join(tools, "kubernetes")
	specs := map[string]supervise.Spec{}
	add := func(name string, argv ...string) {
		specs[name] = supervise.Spec{Name: name, Argv: argv, Log: paths.Log(name), Within: keeper}
	}
	add(Containerd, "containerd", "--config", paths.In("config", "containerd.toml"))
	add(Etcd, append([]string{kubernetes, Etcd}, etcdFlags(paths)...)...)
	add(APIServer, append([]string{kubernetes, APIServer}, apiserverFlags(paths, config)...)...)
	add(ControllerManager, append([]string{kubernetes, ControllerManager}, controllerManagerFlags(paths, config)...)...)
	add(Scheduler, kubernetes, Scheduler,
		"--kubeconfig="+paths.Kubeconfig("scheduler"),
		"--leader-elect=false",
		"--bind-address=127.0.0.1")
	add(Kubelet, kubernetes, Kubelet,
		"--config="+paths.In("config", "kubelet.yaml"),
		"--kubeconfig="+paths.Kubeconfig("node"),
		"--hostname-override="+config.NodeName(),
		"--node-ip="+config.NodeAddrs().String())
	add(Proxy, kubernetes, Proxy, "--config="+paths.In("config", "kube-proxy.yaml"))
	return specs
}

// etcd is alone, and what it stores may be lost with the machine.
func etcdFlags(paths layout.Paths) []string {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []string{
		"--data-dir=" + paths.In("etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

func apiserverFlags(paths layout.Paths, config *layout.Config) []string {
	return []string{
		"--advertise-address=" + config.NodeAddr().String(),
		"--secure-port=6443",
		"--etcd-servers=http://127.0.0.1:2379",
		"--service-cluster-ip-range=" + config.ServiceCIDRs.String(),
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--client-ca-file=" + paths.PKI("ca.crt"),
		"--tls-cert-file=" + paths.PKI("apiserver.crt"),
		"--tls-private-key-file=" + paths.PKI("apiserver.key"),
		"--kubelet-certificate-authority=" + paths.PKI("ca.crt"),
		"--kubelet-client-certificate=" + paths.PKI("kubelet-client.crt"),
		"--kubelet-client-key=" + paths.PKI("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc." + config.Domain,
		"--service-account-key-file=" + paths.PKI("service-accounts.pub"),
		"--service-account-signing-key-file=" + paths.PKI("service-accounts.key"),
		"--requestheader-client-ca-file=" + paths.PKI("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + paths.PKI("front-proxy.crt"),
		"--proxy-client-key-file=" + paths.PKI("front-proxy.key"),
		"--audit-policy-file=" + paths.In("config", "audit-policy.yaml"),
		"--audit-log-path=" + paths.Audit(),
		// Tests read the log right after a request.
		"--audit-log-mode=blocking",
	}
}

func controllerManagerFlags(paths layout.Paths, config *layout.Config) []string {
	flags := []string{
		"--kubeconfig=" + paths.Kubeconfig("controller-manager"),
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		// At its usual 20 requests a second it takes five seconds to begin.
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + paths.PKI("service-accounts.key"),
		"--root-ca-file=" + paths.PKI("ca.crt"),
		"--cluster-signing-cert-file=" + paths.PKI("ca.crt"),
		"--cluster-signing-key-file=" + paths.PKI("ca.key"),
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + config.PodCIDRs.String(),
		"--service-cluster-ip-range=" + config.ServiceCIDRs.String(),
	}
	parts := config.NodePodCIDRs()
	if len(parts) == 1 {
		return append(flags, fmt.Sprintf("--node-cidr-mask-size=%d", parts[0].Bits()))
	}
	for _, part := range parts {
		family := "ipv4"
		if part.Addr().Is6() {
			family = "ipv6"
		}
		flags = append(flags, fmt.Sprintf("--node-cidr-mask-size-%s=%d", family, part.Bits()))
	}
	return flags
}
