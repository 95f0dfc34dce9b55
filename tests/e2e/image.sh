#!/bin/sh
# Makes target/images/other-version.tar: what tests take for a manager of another version.
# The program is built with the tests; the image has the libraries that it loads.
set -eu

cd "$(dirname "$0")/../.."
program=${CARGO_TARGET_DIR:-target}/release/other-version
# "NAME => PATH (ADDRESS)", or the loader's "PATH (ADDRESS)".
libraries=$(ldd "$program" | grep -o '/[^ ]*' | sed 's/.*/&=&/')
mkdir -p target/images
# shellcheck disable=SC2086 # a list of words on purpose
target/cluster/bin/kdev-cluster image --out target/images/other-version.tar \
    --name docker.io/kdev/other-version:99.0.0 --entrypoint /other-version --user 65532 \
    "$program=/other-version" $libraries
