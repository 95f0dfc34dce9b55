package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"kdev.test/cluster/driver/internal/procs"
)

// Role names one of a cluster's namespaces.
type Role string

// The roles of the namespaces of a cluster.
const (
	LAN     Role = "lan"
	Node    Role = "node"
	Laptop  Role = "laptop"
	Outside Role = "outside"
)

// Record is what the driver knows about a cluster between two commands. It is
// written step by step, so that a cluster that came up half can be taken down whole.
type Record struct {
	Config     Config
	Supervisor procs.ID
	Namespaces []Namespace
	// Boot is the machine's boot id: after another boot no process number and no
	// inode number below means anything.
	Boot string
	// Cgroup is the name of the group that was made in every hierarchy.
	Cgroup string
	// Ready is set when `up` had nothing more to do.
	Ready bool
}

// Namespace is one set of kernel namespaces, held by a keeper process. The inode
// numbers identify it even when the keeper is gone.
type Namespace struct {
	Role   Role
	Keeper procs.ID
	Net    uint64
	// Mnt is zero where the role shares the machine's mounts.
	Mnt uint64
}

// Find returns the namespace with that role, or nil.
func (r *Record) Find(role Role) *Namespace {
	for i := range r.Namespaces {
		if r.Namespaces[i].Role == role {
			return &r.Namespaces[i]
		}
	}
	return nil
}

// BootID identifies the time since the machine's last start.
func BootID() string {
	content, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(content))
}

// ErrNone is returned by Load when there is no such cluster.
var ErrNone = errors.New("no such cluster")

// Load reads the record of a cluster.
func Load(paths Paths) (*Record, error) {
	content, err := os.ReadFile(paths.Record())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s (bring it up with: kdev-cluster up --name %s)", ErrNone, paths.Name(), paths.Name())
	}
	if err != nil {
		return nil, err
	}
	record := &Record{}
	if err := json.Unmarshal(content, record); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", paths.Record(), err)
	}
	return record, nil
}

// Save replaces the record in one step, so that a reader never sees half of it.
func (r *Record) Save(paths Paths) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	temporary := paths.Record() + ".new"
	if err := os.WriteFile(temporary, append(content, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, paths.Record())
}
