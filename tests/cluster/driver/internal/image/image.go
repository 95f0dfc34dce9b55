// Package image writes container images without a container engine, as the archives
// that `docker save` writes and containerd imports.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// Spec describes an image of a single layer. The same spec and the same files give
// the same bytes: everything belongs to root and carries the time zero.
type Spec struct {
	Name       string
	Entrypoint []string
	User       string
	Files      []File
}

// File is a file of the machine and its absolute path in the image.
type File struct{ Source, Destination string }

// ParseFile reads FILE=DEST.
func ParseFile(argument string) (File, error) {
	source, destination, found := strings.Cut(argument, "=")
	if !found || source == "" || !path.IsAbs(destination) {
		return File{}, fmt.Errorf("%q: FILE=DEST is needed, with an absolute DEST", argument)
	}
	return File{Source: source, Destination: path.Clean(destination)}, nil
}

// Write stores the image in a file, in one step.
func Write(out string, spec Spec) error {
	layer, err := packLayer(spec.Files)
	if err != nil {
		return err
	}
	digest := hex.EncodeToString(sum(layer))
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64",
		"os":           "linux",
		"created":      "1970-01-01T00:00:00Z",
		"config":       map[string]any{"Entrypoint": spec.Entrypoint, "User": spec.User},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest}},
		"history":      []any{map[string]any{"created": "1970-01-01T00:00:00Z", "created_by": "kdev-cluster image"}},
	})
	if err != nil {
		return err
	}
	configName := hex.EncodeToString(sum(config)) + ".json"
	layerName := digest + "/layer.tar"
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": configName, "RepoTags": []string{spec.Name}, "Layers": []string{layerName},
	}})
	if err != nil {
		return err
	}
	temporary := out + ".new"
	file, err := os.Create(temporary)
	if err != nil {
		return err
	}
	defer file.Close()
	archive := tar.NewWriter(file)
	for _, part := range []struct {
		name    string
		content []byte
	}{{configName, config}, {layerName, layer}, {"manifest.json", manifest}} {
		if err := addFile(archive, part.name, 0o644, part.content); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return os.Rename(temporary, out)
}

// packLayer sorts the files and puts the directories they need before them.
func packLayer(files []File) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Destination, b.Destination) })
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	made := map[string]bool{"/": true}
	for _, file := range files {
		if err := addParents(archive, made, path.Dir(file.Destination)); err != nil {
			return nil, err
		}
		content, mode, err := read(file.Source)
		if err != nil {
			return nil, err
		}
		if err := addFile(archive, file.Destination[1:], mode, content); err != nil {
			return nil, err
		}
	}
	err := archive.Close()
	return buffer.Bytes(), err
}

func addParents(archive *tar.Writer, made map[string]bool, dir string) error {
	if made[dir] {
		return nil
	}
	if err := addParents(archive, made, path.Dir(dir)); err != nil {
		return err
	}
	made[dir] = true
	return archive.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	})
}

func addFile(archive *tar.Writer, name string, mode int64, content []byte) error {
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)),
		ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := archive.Write(content)
	return err
}

// read keeps of a file's mode only whether it can be executed, since the rest is the
// umask of whoever checked it out.
func read(source string) ([]byte, int64, error) {
	file, err := os.Open(source)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s isn't a file", source)
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	content, err := io.ReadAll(file)
	return content, mode, err
}

func sum(content []byte) []byte {
	digest := sha256.Sum256(content)
	return digest[:]
}
