#!/bin/sh
# Makes target/images/traffic-manager.tar, a docker archive: one static program in an
# otherwise empty image.
#
# Of kdev's own, only the last crate is built anew for being static; cargo keeps it apart
# from the dynamic one, so neither is built twice.
set -eu

cd "$(dirname "$0")/../.."
images=$PWD/target/images
program=kdev-traffic-manager
# Nobody in particular, as distroless images have it; kdev's Deployment asks for the same.
user=65532

tests/cluster/build.sh driver
cargo rustc --release --package $program --bin $program -- -C target-feature=+crt-static
mkdir -p "$images"
# Away from where the next build may put the dynamic one.
cp "${CARGO_TARGET_DIR:-target}/release/$program" "$images/$program"
trap 'rm -f "$images/$program"' EXIT
# The loader's own word for it: it has nothing to load.
if ! ldd "$images/$program" 2>&1 | grep -q -e 'statically linked' -e 'not a dynamic executable'; then
    echo "build.sh: $program isn't static" >&2
    exit 1
fi

release=$(cargo pkgid --package $program)
name=docker.io/kdev/traffic-manager:${release##*[#@]}
target/cluster/bin/kdev-cluster image --out "$images/traffic-manager.tar" --name "$name" \
    --entrypoint /$program --user $user "$images/$program=/$program"
echo "build.sh: $name is in target/images/traffic-manager.tar"
