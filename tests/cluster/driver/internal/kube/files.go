package kube

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"text/template"

	"kdev.test/cluster/driver/internal/layout"
)

// files/ holds the components' configuration, manifests/ what is created in the
// cluster. Both are templates over facts.
//
//go:embed files manifests
var embedded embed.FS

// Images that every cluster has, as build.sh names them.
const (
	PauseImage    = "kdev.test/pause:1"
	CoreDNSImage  = "kdev.test/coredns:1"
	WorkloadImage = "kdev.test/workload:1"
)

// facts are the words that templates may use.
type facts struct {
	*layout.Config
	State        string
	Cgroup       string
	PauseImage   string
	CoreDNSImage string
}

func newFacts(paths layout.Paths, config *layout.Config) facts {
	return facts{
		Config: config, State: paths.Dir(), Cgroup: paths.CgroupName(),
		PauseImage: PauseImage, CoreDNSImage: CoreDNSImage,
	}
}

func render(name string, facts facts) ([]byte, error) {
	parsed, err := template.New(path.Base(name)).Option("missingkey=error").ParseFS(embedded, name)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = parsed.Execute(&text, facts)
	return text.Bytes(), err
}

// WriteConfiguration fills in the components' configuration files.
func WriteConfiguration(paths layout.Paths, config *layout.Config) error {
	facts := newFacts(paths, config)
	entries, err := fs.ReadDir(embedded, "files")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		content, err := render("files/"+entry.Name(), facts)
		if err != nil {
			return fmt.Errorf("%s: %w", entry.Name(), err)
		}
		if err := os.WriteFile(paths.In("config", entry.Name()), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// documents renders the manifests and takes them apart at the lines "---".
func documents(paths layout.Paths, config *layout.Config) ([]string, error) {
	facts := newFacts(paths, config)
	entries, err := fs.ReadDir(embedded, "manifests")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, entry := range entries {
		content, err := render("manifests/"+entry.Name(), facts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name(), err)
		}
		all = append(all, strings.Split(string(content), "\n---\n")...)
	}
	return all, nil
}
