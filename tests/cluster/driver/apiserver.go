package main

import (
	"context"
	"fmt"
	"time"

	"kdev.test/cluster/driver/internal/kube"
	"kdev.test/cluster/driver/internal/layout"
)

func restartAPIServer(arguments []string) error {
	return withAPIServer("restart-apiserver", arguments, true, true)
}

func stopAPIServer(arguments []string) error {
	return withAPIServer("stop-apiserver", arguments, true, false)
}

func startAPIServer(arguments []string) error {
	return withAPIServer("start-apiserver", arguments, false, true)
}

func withAPIServer(command string, arguments []string, stop, start bool) error {
	o := newOptions(command)
	// It would let watches and port-forwards finish for a minute, which they don't.
	grace := o.Duration("grace", 2*time.Second, "how long it may take to end before it is killed")
	now := o.Bool("now", false, "kill it at once")
	if err := o.parse(arguments); err != nil {
		return err
	}
	paths, record, err := o.cluster()
	if err != nil {
		return err
	}
	client := clientOf(paths)
	began := time.Now()
	if stop {
		if *now {
			*grace = 0
		}
		if err := client.Stop(kube.APIServer, *grace); err != nil {
			return err
		}
		fmt.Printf("the API server ended after %.1fs\n", time.Since(began).Seconds())
	}
	if !start {
		return nil
	}
	if err := client.StartAgain(kube.APIServer); err != nil {
		return err
	}
	if err := waitReady(paths, record); err != nil {
		return err
	}
	fmt.Printf("the API server serves after %.1fs\n", time.Since(began).Seconds())
	return nil
}

func waitReady(paths layout.Paths, record *layout.Record) error {
	node, err := keeperOf(record, layout.Node)
	if err != nil {
		return err
	}
	api, err := kube.NewAPI(paths, &record.Config, node.Keeper.PID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := api.WaitReady(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(paths.Log(kube.APIServer), 10))
	}
	return nil
}
