#!/bin/sh
# Makes target/images/bench-load.tar: the program that serves in a pod, with the libraries that it loads.
set -eu

cd "$(dirname "$0")/../.."
program=${CARGO_TARGET_DIR:-target}/release/kdev-bench-load
# "NAME => PATH (ADDRESS)", or the loader's "PATH (ADDRESS)".
libraries=$(ldd "$program" | grep -o '/[^ ]*' | sed 's/.*/&=&/')
mkdir -p target/images
# shellcheck disable=SC2086 # a list of words on purpose
target/cluster/bin/kdev-cluster image --out target/images/bench-load.tar \
    --name kdev.test/bench-load:1 --entrypoint /kdev-bench-load --user 65532 \
    "$program=/kdev-bench-load" $libraries
