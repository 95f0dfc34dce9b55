package image

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheSameFilesGiveTheSameBytes(t *testing.T) {
	first, second := written(t, time.Unix(1, 0)), written(t, time.Unix(1e9, 0))
	if !bytes.Equal(first, second) {
		t.Error("two archives of the same files differ")
	}
}

func TestLayerHasDirectoriesBeforeTheirFilesAndKeepsTheExecutableBit(t *testing.T) {
	layer := member(t, written(t, time.Unix(1, 0)), "/layer.tar")
	archive := tar.NewReader(bytes.NewReader(layer))
	var seen []string
	for header, err := archive.Next(); err == nil; header, err = archive.Next() {
		seen = append(seen, header.Name)
		if header.Name == "usr/bin/program" && header.Mode != 0o755 {
			t.Errorf("%s has mode %o", header.Name, header.Mode)
		}
	}
	if got := strings.Join(seen, " "); got != "usr/ usr/bin/ usr/bin/program" {
		t.Error("the layer holds", got)
	}
}

func TestManifestNamesTheImage(t *testing.T) {
	manifest := member(t, written(t, time.Unix(1, 0)), "manifest.json")
	if !bytes.Contains(manifest, []byte(`"RepoTags":["kdev.test/x:1"]`)) {
		t.Errorf("%s", manifest)
	}
}

// written is an image of one program that was modified at the given time.
func written(t *testing.T, modified time.Time) []byte {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	out := filepath.Join(dir, "x.tar")
	spec := Spec{Name: "kdev.test/x:1", Entrypoint: []string{"/usr/bin/program"}, Files: []File{{program, "/usr/bin/program"}}}
	check(t, os.WriteFile(program, []byte("content"), 0o700))
	check(t, os.Chtimes(program, modified, modified))
	check(t, Write(out, spec))
	content, err := os.ReadFile(out)
	check(t, err)
	return content
}

// member is the first file of an archive whose name ends so.
func member(t *testing.T, archive []byte, suffix string) []byte {
	t.Helper()
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		check(t, err)
		if strings.HasSuffix(header.Name, suffix) {
			content, err := io.ReadAll(reader)
			check(t, err)
			return content
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
