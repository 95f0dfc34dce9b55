package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/namespace"
	"kdev.test/cluster/driver/internal/pki"
)

// API is a small client of the API server, which it reaches through the node's
// network namespace.
type API struct {
	base   string
	client *http.Client
}

// NewAPI makes a client with the driver's own certificate.
func NewAPI(paths layout.Paths, config *layout.Config, keeper int) (*API, error) {
	ca, err := pki.LoadAuthority(paths.PKI(""), "ca")
	if err != nil {
		return nil, err
	}
	pair, err := ca.Issue(pki.Subject{Name: driverUser, Groups: []string{"system:masters"}})
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM)
	address := netip.AddrPortFrom(config.NodeAddr(), 6443)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return namespace.DialTCP(keeper, address)
		},
	}
	return &API{base: config.APIServerURL(), client: &http.Client{Transport: transport}}, nil
}

// WaitReady returns when the API server says that it serves everything.
func (a *API) WaitReady(ctx context.Context) error {
	// There is nothing to be woken by before somebody listens on the port.
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		body, status, err := a.do(ctx, http.MethodGet, "/readyz", "", nil)
		if err == nil && status == http.StatusOK {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("/readyz answers %d: %s", status, body)
		}
		// The last answer explains more than "deadline exceeded".
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server isn't ready: %w; last: %w", context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}

// Create posts a manifest; one that exists already is left as it is.
func (a *API) Create(ctx context.Context, manifest string) error {
	path, err := collection(manifest)
	if err != nil {
		return err
	}
	body, status, err := a.do(ctx, http.MethodPost, path, "application/yaml", strings.NewReader(manifest))
	if err != nil {
		return err
	}
	if status != http.StatusCreated && status != http.StatusConflict {
		return fmt.Errorf("creating in %s: %d %s", path, status, body)
	}
	return nil
}

// collections maps a kind to where its objects are created.
var collections = map[string]string{
	"ServiceAccount":     "/api/v1/namespaces/kube-system/serviceaccounts",
	"ConfigMap":          "/api/v1/namespaces/kube-system/configmaps",
	"Service":            "/api/v1/namespaces/kube-system/services",
	"Deployment":         "/apis/apps/v1/namespaces/kube-system/deployments",
	"ClusterRole":        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
	"ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}

func collection(manifest string) (string, error) {
	for line := range strings.Lines(manifest) {
		if kind, found := strings.CutPrefix(line, "kind: "); found {
			if path, known := collections[strings.TrimSpace(kind)]; known {
				return path, nil
			}
			return "", fmt.Errorf("no path is known for kind %s", kind)
		}
	}
	return "", fmt.Errorf("a manifest without kind:\n%s", manifest)
}

// WaitFor watches one object until it is as wanted. The object need not exist yet.
func (a *API) WaitFor(ctx context.Context, path, name string, wanted func(object json.RawMessage) bool) error {
	query := url.Values{"watch": {"1"}, "fieldSelector": {"metadata.name=" + name}}
	for {
		done, err := a.watch(ctx, path+"?"+query.Encode(), wanted)
		if done || err != nil {
			return err
		}
		// The server ends a watch from time to time; the next one begins with the
		// object's present state.
	}
}

func (a *API) watch(ctx context.Context, path string, wanted func(json.RawMessage) bool) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, nil)
	if err != nil {
		return false, err
	}
	response, err := a.client.Do(request)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		return false, fmt.Errorf("GET %s: %s %s", path, response.Status, body)
	}
	events := json.NewDecoder(response.Body)
	for {
		event := struct {
			Type   string
			Object json.RawMessage
		}{}
		if err := events.Decode(&event); err != nil {
			return false, context.Cause(ctx)
		}
		if event.Type != "DELETED" && wanted(event.Object) {
			return true, nil
		}
	}
}

func (a *API) do(ctx context.Context, method, path, contentType string, body io.Reader) ([]byte, int, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return nil, 0, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return content, response.StatusCode, err
}
