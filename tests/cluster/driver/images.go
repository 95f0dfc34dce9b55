package main

import (
	"errors"
	"flag"
	"fmt"

	"kdev.test/cluster/driver/internal/image"
	"kdev.test/cluster/driver/internal/layout"
)

// importImages loads images into the node's containerd.
func importImages(arguments []string) error {
	o, _, record, err := open("import", arguments)
	if err != nil {
		return err
	}
	if o.NArg() == 0 {
		return errors.New("no image is given")
	}
	node, err := keeperOf(record, layout.Node)
	if err != nil {
		return err
	}
	for _, path := range o.Args() {
		if err := importImage(node.Keeper.PID, path); err != nil {
			return err
		}
	}
	return nil
}

// writeImage makes an image of files; it needs neither root nor a cluster.
func writeImage(arguments []string) error {
	o := &options{FlagSet: flag.NewFlagSet("kdev-cluster image", flag.ContinueOnError)}
	out := o.String("out", "", "the `archive` to write")
	name := o.String("name", "", "the image's `name:tag`")
	entrypoint := o.String("entrypoint", "", "the `path` in the image of the program that is started")
	user := o.String("user", "", "the `uid` it is started as; root if empty")
	if err := o.parse(arguments); err != nil {
		return err
	}
	spec := image.Spec{Name: *name, Entrypoint: []string{*entrypoint}, User: *user}
	if *out == "" || *name == "" || *entrypoint == "" || o.NArg() == 0 {
		return errors.New("image needs --out, --name, --entrypoint and at least one FILE=DEST")
	}
	for _, argument := range o.Args() {
		file, err := image.ParseFile(argument)
		if err != nil {
			return err
		}
		spec.Files = append(spec.Files, file)
	}
	if err := image.Write(*out, spec); err != nil {
		return fmt.Errorf("writing %s: %w", *out, err)
	}
	return nil
}
