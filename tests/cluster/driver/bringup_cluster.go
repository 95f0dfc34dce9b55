package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"kdev.test/cluster/driver/internal/kube"
	"kdev.test/cluster/driver/internal/layout"
	"kdev.test/cluster/driver/internal/namespace"
	"kdev.test/cluster/driver/internal/network"
	"kdev.test/cluster/driver/internal/procs"
	"kdev.test/cluster/driver/internal/supervise"
)

// makeNamespaces starts the keepers side by side and then lays the cables.
func (b *bringUp) makeNamespaces(context.Context) error {
	roles := b.record.Config.Roles()
	tasks := make([]func() error, len(roles))
	for i, role := range roles {
		tasks[i] = func() error { return b.startKeeper(role) }
	}
	if err := together(tasks...); err != nil {
		return err
	}
	return b.connect()
}

func (b *bringUp) startKeeper(role layout.Role) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	isolate := []string{"net"}
	if role != layout.LAN {
		isolate = append(isolate, "mnt", "uts")
	}
	name := "keeper-" + string(role)
	keeper, err := b.client.Start(supervise.Spec{
		Name:    name,
		Argv:    []string{self, "keep", "--name", b.record.Config.Name, "--state", b.paths.Root(), string(role)},
		Log:     b.paths.Log(name),
		Isolate: isolate, Announces: true,
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, tail(b.paths.Log(name), 5))
	}
	made := layout.Namespace{Role: role, Keeper: keeper}
	if made.Net, err = procs.Namespace(keeper.PID, "net"); err != nil {
		return err
	}
	if role != layout.LAN {
		if made.Mnt, err = procs.Namespace(keeper.PID, "mnt"); err != nil {
			return err
		}
	}
	b.saving.Lock()
	b.record.Namespaces = append(b.record.Namespaces, made)
	b.saving.Unlock()
	return b.save()
}

func (b *bringUp) connect() error {
	config := &b.record.Config
	lan, err := lanOf(b.paths, b.record)
	if err != nil {
		return err
	}
	node := b.record.Find(layout.Node)
	if config.HasLAN() {
		laptop, outside := b.record.Find(layout.Laptop), b.record.Find(layout.Outside)
		if err := network.LAN(lan); err != nil {
			return err
		}
		if err := network.Port(lan, outside, "router", config.OnLAN(config.RouterAddrs())); err != nil {
			return err
		}
		if err := network.Outside(config, outside); err != nil {
			return err
		}
		if err := network.Port(lan, laptop, "laptop", config.OnLAN(config.LaptopAddrs())); err != nil {
			return err
		}
		if err := network.ViaRouter(config, laptop); err != nil {
			return err
		}
	}
	if err := network.Port(lan, node, nodePort(config), config.OnLAN(config.NodeLANAddrs())); err != nil {
		return err
	}
	if err := network.ViaRouter(config, node); err != nil {
		return err
	}
	return network.Masquerade(config, node)
}

// nodePort names the node's port on the bridge, which several clusters may share.
func nodePort(config *layout.Config) string { return "n-" + config.Name }

// lanOf is the namespace with the bridge that a cluster's node is plugged into.
func lanOf(paths layout.Paths, record *layout.Record) (*layout.Namespace, error) {
	if !record.Config.HasLAN() {
		host, err := layout.Load(paths.Sibling(record.Config.LAN))
		if err != nil {
			return nil, err
		}
		record = host
	}
	return keeperOf(record, layout.LAN)
}

// startCluster starts everything in an order that keeps two processors busy: while
// the API server starts, containerd does and gets its images.
func (b *bringUp) startCluster(ctx context.Context) error {
	config := &b.record.Config
	keeper := b.record.Find(layout.Node).Keeper.PID
	b.specs = kube.Components(b.paths, config, keeper, b.tools)
	api, err := kube.NewAPI(b.paths, config, keeper)
	if err != nil {
		return err
	}
	if err := together(
		func() error {
			return b.step("API server", func() error {
				if err := b.startComponents(kube.Etcd, kube.APIServer); err != nil {
					return err
				}
				return api.WaitReady(ctx)
			})
		},
		func() error {
			return b.step("containerd and images", func() error { return b.startContainerd(keeper) })
		},
		b.startOutside,
	); err != nil {
		return err
	}
	return together(
		func() error {
			return b.step("node Ready", func() error {
				if err := b.startComponents(kube.Kubelet, kube.ControllerManager, kube.Scheduler, kube.Proxy); err != nil {
					return err
				}
				if err := kube.WaitNode(ctx, api, config); err != nil {
					return err
				}
				return kube.WaitServiceAccount(ctx, api)
			})
		},
		func() error {
			return b.step("cluster DNS available", func() error {
				if err := kube.Create(ctx, api, b.paths, config); err != nil {
					return err
				}
				return kube.WaitDNS(ctx, api)
			})
		},
	)
}

func (b *bringUp) startComponents(names ...string) error {
	for _, name := range names {
		if _, err := b.client.Start(b.specs[name]); err != nil {
			return err
		}
	}
	return nil
}

func (b *bringUp) startContainerd(keeper int) error {
	if err := b.startComponents(kube.Containerd); err != nil {
		return err
	}
	images, err := imagePaths()
	if err != nil {
		return err
	}
	for _, image := range images {
		if err := importImage(keeper, image); err != nil {
			return err
		}
	}
	return nil
}

// startOutside runs the resolver and the pages, if the outside world is this cluster's.
func (b *bringUp) startOutside() error {
	outside := b.record.Find(layout.Outside)
	if outside == nil {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return b.step("outside world", func() error {
		_, err := b.client.Start(supervise.Spec{
			Name:   "outside",
			Argv:   []string{self, "serve-outside", "--name", b.record.Config.Name, "--state", b.paths.Root()},
			Log:    b.paths.Log("outside"),
			Within: outside.Keeper.PID, Announces: true,
		})
		return err
	})
}

// imagePaths are the images that every cluster gets, in the order they are needed.
func imagePaths() ([]string, error) {
	dir, err := layout.Images()
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, name := range []string{"pause", "coredns", "workload"} {
		paths = append(paths, filepath.Join(dir, name+".tar"))
	}
	return paths, nil
}

// importImage hands an image to containerd, waiting for containerd if it only just starts.
func importImage(keeper int, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	command, err := namespace.Command(keeper, "ctr", "--connect-timeout", "20s", "--namespace", "k8s.io", "images", "import", "-")
	if err != nil {
		return err
	}
	command.Stdin = file
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("importing %s: %w: %s", path, err, output)
	}
	return nil
}

// together runs tasks side by side and returns the first error.
func together(tasks ...func() error) error {
	var group sync.WaitGroup
	errs := make(chan error, len(tasks))
	for _, task := range tasks {
		group.Go(func() {
			if err := task(); err != nil {
				errs <- err
			}
		})
	}
	group.Wait()
	close(errs)
	return <-errs
}
