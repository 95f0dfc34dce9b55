package kube

import (
	"context"
	"encoding/json"
	"fmt"

	"kdev.test/cluster/driver/internal/layout"
)

// Create makes the objects that a cluster needs beyond what its components make.
func Create(ctx context.Context, api *API, paths layout.Paths, config *layout.Config) error {
	manifests, err := documents(paths, config)
	if err != nil {
		return err
	}
	for _, manifest := range manifests {
		if err := api.Create(ctx, manifest); err != nil {
			return err
		}
	}
	return nil
}

// WaitNode returns when the node is Ready.
func WaitNode(ctx context.Context, api *API, config *layout.Config) error {
	err := api.WaitFor(ctx, "/api/v1/nodes", config.NodeName(), func(object json.RawMessage) bool {
		return hasCondition(object, "Ready")
	})
	return explain(err, "the node isn't Ready")
}

// WaitServiceAccount returns when pods can be created in the namespace default.
func WaitServiceAccount(ctx context.Context, api *API) error {
	err := api.WaitFor(ctx, "/api/v1/namespaces/default/serviceaccounts", "default", exists)
	if err == nil {
		err = api.WaitFor(ctx, "/api/v1/namespaces/default/configmaps", "kube-root-ca.crt", exists)
	}
	return explain(err, "the default ServiceAccount isn't there")
}

// WaitDNS returns when the cluster's DNS answers.
func WaitDNS(ctx context.Context, api *API) error {
	err := api.WaitFor(ctx, "/apis/apps/v1/namespaces/kube-system/deployments", "coredns", func(object json.RawMessage) bool {
		return hasCondition(object, "Available")
	})
	return explain(err, "CoreDNS isn't available")
}

func exists(json.RawMessage) bool { return true }

func hasCondition(object json.RawMessage, wanted string) bool {
	status := struct {
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}{}
	if json.Unmarshal(object, &status) != nil {
		return false
	}
	for _, condition := range status.Status.Conditions {
		if condition.Type == wanted && condition.Status == "True" {
			return true
		}
	}
	return false
}

func explain(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
