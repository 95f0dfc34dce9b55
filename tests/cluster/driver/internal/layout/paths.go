package layout

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// DefaultStateRoot is where clusters keep their state unless told otherwise.
const DefaultStateRoot = "/var/lib/kdev-cluster"

// Paths are the places of one cluster's files. Inside the cluster's namespaces the
// directory has the same path as outside, so a path is valid everywhere.
type Paths struct {
	root, name string
}

// NewPaths makes the state root absolute; a cluster lives in the directory of its name below it.
func NewPaths(root, name string) (Paths, error) {
	absolute, err := filepath.Abs(root)
	return Paths{root: absolute, name: name}, err
}

// Sibling are the paths of another cluster under the same state root.
func (p Paths) Sibling(name string) Paths { return Paths{root: p.root, name: name} }

// Name is the cluster's name.
func (p Paths) Name() string { return p.name }

// Root is the directory that holds all clusters of this state root.
func (p Paths) Root() string { return p.root }

// Dir is everything of this cluster.
func (p Paths) Dir() string { return filepath.Join(p.root, p.name) }

// In joins a path below the cluster's directory.
func (p Paths) In(elements ...string) string {
	return filepath.Join(append([]string{p.Dir()}, elements...)...)
}

// Record is the file that Load and Save use.
func (p Paths) Record() string { return p.In("cluster.json") }

// Control is the supervisor's socket. It is always opened through the directory's
// descriptor: a socket's path may have 107 bytes, a state directory more.
func (p Paths) Control() string { return "control.sock" }

// Log is the log file of one component.
func (p Paths) Log(component string) string { return p.In("logs", component+".log") }

// Audit is the API server's audit log.
func (p Paths) Audit() string { return p.In("audit", "audit.log") }

// OutsideLog has one line per query that the outside resolver got.
func (p Paths) OutsideLog() string { return p.In("outside", "queries.log") }

// Kubeconfig is the file of one user.
func (p Paths) Kubeconfig(user string) string { return p.In("kubeconfig", user+".kubeconfig") }

// PKI is a certificate or key.
func (p Paths) PKI(file string) string { return p.In("pki", file) }

// CgroupName is unique per state root and cluster, since cgroups know no directories of ours.
func (p Paths) CgroupName() string {
	name := "kdev-cluster-" + p.name
	if p.root != DefaultStateRoot {
		name += fmt.Sprintf("-%08x", crc32.ChecksumIEEE([]byte(p.root)))
	}
	return name
}

// Tools is the directory of the running program, where build.sh puts the others too.
func Tools() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	self, err = filepath.EvalSymlinks(self)
	return filepath.Dir(self), err
}

// Checkout is the directory that contains target/cluster/bin, or the tools'
// directory itself when they were put elsewhere.
func Checkout() (string, error) {
	tools, err := Tools()
	if err != nil {
		return "", err
	}
	if isBuildOutput(tools) {
		return filepath.Join(tools, "../../.."), nil
	}
	return tools, nil
}

func isBuildOutput(dir string) bool {
	for _, want := range []string{"bin", "cluster", "target"} {
		if filepath.Base(dir) != want {
			return false
		}
		dir = filepath.Dir(dir)
	}
	return true
}

// Images is where build.sh puts the images that every cluster gets.
func Images() (string, error) {
	tools, err := Tools()
	return filepath.Join(tools, "../../images"), err
}
