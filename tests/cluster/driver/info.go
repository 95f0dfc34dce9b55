package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"kdev.test/cluster/driver/internal/kube"
	"kdev.test/cluster/driver/internal/supervise"
)

// kubeconfig prints the path of a kubeconfig, which is valid on the machine and in
// every namespace; its server is reachable from node and laptop only.
func kubeconfig(arguments []string) error {
	o := newOptions("kubeconfig")
	user := o.String("user", "", "make a kubeconfig for this `user`, who has no rights but those you give")
	var groups list
	o.Var(&groups, "group", "a `group` of that user (repeatable)")
	if err := o.parse(arguments); err != nil {
		return err
	}
	paths, record, err := o.cluster()
	if err != nil {
		return err
	}
	path := paths.Kubeconfig("admin")
	if *user != "" {
		if strings.ContainsRune(*user, '/') {
			return fmt.Errorf("--user %s: a name without slashes is needed", *user)
		}
		if path, err = kube.UserKubeconfig(paths, &record.Config, *user, groups); err != nil {
			return err
		}
	}
	fmt.Println(path)
	return nil
}

func audit(arguments []string) error {
	_, paths, _, err := open("audit", arguments)
	if err == nil {
		fmt.Println(paths.Audit())
	}
	return err
}

func outsideLog(arguments []string) error {
	_, paths, record, err := open("outside-log", arguments)
	if err != nil {
		return err
	}
	if lan := record.Config.LAN; lan != "" {
		paths = paths.Sibling(lan)
	}
	fmt.Println(paths.OutsideLog())
	return nil
}

// status exits with 1 when something that should run doesn't.
func status(arguments []string) error {
	_, paths, record, err := open("status", arguments)
	if err != nil {
		return err
	}
	config := &record.Config
	fmt.Printf("cluster %s: pods %s, services %s, domain %s\n", config.Name, config.PodCIDRs, config.ServiceCIDRs, config.Domain)
	fmt.Printf("  API server  %s\n  kubeconfig  %s\n  state       %s\n", config.APIServerURL(), paths.Kubeconfig("admin"), paths.Dir())
	if config.HasLAN() {
		fmt.Printf("  LAN         %s: router %s, node %s, laptop %s\n", config.NodeNets, config.RouterAddrs(), config.NodeAddrs(), config.LaptopAddrs())
	} else {
		fmt.Printf("  LAN         %s of cluster %s: node %s\n", config.NodeNets, config.LAN, config.NodeAddrs())
	}
	for _, namespace := range record.Namespaces {
		fmt.Printf("  namespaces  %-8s held by process %d\n", namespace.Role, namespace.Keeper.PID)
	}
	components, err := clientOf(paths).List()
	if err != nil {
		return err
	}
	slices.SortFunc(components, func(a, b supervise.Component) int { return strings.Compare(a.Name, b.Name) })
	healthy := record.Ready
	for _, component := range components {
		state := fmt.Sprintf("runs as process %d", component.Process.PID)
		if !component.Running {
			state = fmt.Sprintf("ended with status %d, see %s", component.Exit, component.Log)
			healthy = false
		}
		fmt.Printf("  %-24s %s\n", component.Name, state)
	}
	if !healthy {
		return exitCode(1)
	}
	return nil
}

// logs shows where the logs are, or the end of one.
func logs(arguments []string) error {
	o := newOptions("logs")
	lines := o.Int("lines", 100, "how many lines of the end; 0 for all")
	if err := o.parse(arguments); err != nil {
		return err
	}
	paths, _, err := o.cluster()
	if err != nil {
		return err
	}
	if o.NArg() > 0 {
		path := paths.Log(o.Arg(0))
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w (kdev-cluster logs lists what there is)", err)
		}
		fmt.Println(tail(path, *lines))
		return nil
	}
	entries, err := os.ReadDir(paths.In("logs"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fmt.Println(paths.In("logs", entry.Name()))
	}
	return nil
}

// tail returns the last lines of a file, or all for zero.
func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	if lines > 0 && len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// explain prints what the components complained about last.
func (b *bringUp) explain() {
	entries, _ := os.ReadDir(b.paths.In("logs"))
	for _, entry := range entries {
		complaints := complaintsIn(b.paths.In("logs", entry.Name()))
		if len(complaints) > 0 {
			fmt.Fprintf(os.Stderr, "--- %s\n%s\n", entry.Name(), strings.Join(complaints, "\n"))
		}
	}
}

// complaintsIn picks the last errors out of a log: klog lines begin with E or F,
// containerd's have a level, etcd's are JSON.
func complaintsIn(path string) []string {
	const most = 5
	var found []string
	for line := range strings.SplitSeq(tail(path, 500), "\n") {
		isKlog := len(line) > 5 && (line[0] == 'E' || line[0] == 'F') && line[1] >= '0' && line[1] <= '9'
		if isKlog || strings.Contains(line, "level=error") || strings.Contains(line, "level=fatal") ||
			strings.Contains(line, `"level":"fatal"`) || strings.Contains(line, `"level":"error"`) ||
			strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "kdev-cluster:") {
			found = append(found, line)
		}
	}
	if len(found) > most {
		found = found[len(found)-most:]
	}
	return found
}
