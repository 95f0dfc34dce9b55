#!/bin/sh
# Makes everything that a test cluster consists of, into target/cluster/bin and
# target/images of the checkout. What was made from the same sources is left alone:
# the comparison is of contents, since a fresh checkout has fresh times on every file,
# and Kubernetes takes minutes.
#
#   build.sh             everything
#   build.sh PART...     only: kubernetes coredns driver workload images
set -eu

cd "$(dirname "$0")"
here=$PWD
checkout=$(cd ../.. && pwd)
bin=$checkout/target/cluster/bin
stamps=$checkout/target/cluster/stamps
images=$checkout/target/images
mkdir -p "$bin" "$stamps" "$images"

# Two builds at once would compile the same twice and write the same files.
exec 9> "$stamps/lock"
flock 9

kubernetes_version=v1.34.4
export CGO_ENABLED=0
# How many compilers run at once, for machines with other work to do.
jobs=${JOBS:-$(nproc)}

# fresh PART OUTPUT SOURCE...: was OUTPUT made from these sources, by this Go?
fresh() {
    part=$1 output=$2
    shift 2
    wanted=$(
        go version
        echo "$kubernetes_version"
        find "$@" -type f | LC_ALL=C sort | xargs sha256sum
    )
    [ -e "$output" ] && [ "$wanted" = "$(cat "$stamps/$part" 2>/dev/null)" ]
}

# done_with PART: what `fresh` compared is from now on what is there.
done_with() {
    printf '%s\n' "$wanted" > "$stamps/$1"
}

# compile DIR PACKAGE OUTPUT [LINKER FLAGS]: to a new name first, since a running
# program can't be written to.
compile() {
    echo "build.sh: compiling $(basename "$3")"
    (cd "$1" && go build -p "$jobs" -trimpath -buildvcs=false -ldflags "-s -w ${4:-}" -o "$3.new" "$2")
    mv "$3.new" "$3"
}

build_kubernetes() {
    fresh kubernetes "$bin/kubernetes" kubernetes && return
    package=k8s.io/component-base/version
    stamp="-X $package.gitVersion=$kubernetes_version -X $package.gitMajor=1 -X $package.gitMinor=34 -X $package.gitTreeState=clean"
    compile kubernetes . "$bin/kubernetes" "$stamp"
    compile kubernetes ./kubectl "$bin/kubectl" "$stamp"
    done_with kubernetes
}

build_coredns() {
    fresh coredns "$bin/coredns" coredns && return
    compile coredns . "$bin/coredns"
    done_with coredns
}

build_driver() {
    fresh driver "$bin/kdev-cluster" driver && return
    compile driver . "$bin/kdev-cluster"
    done_with driver
}

build_workload() {
    fresh workload "$bin/workload" workload && return
    compile workload . "$bin/workload"
    done_with workload
}

build_pause() {
    fresh pause "$bin/pause" pause && return
    gcc -Os -static -s -Wall -Wextra -o "$bin/pause.new" pause/pause.c
    mv "$bin/pause.new" "$bin/pause"
    done_with pause
}

# An image's sources are the program and the one that packs it.
build_image() {
    name=$1 program=$2 user=$3
    fresh "image-$name" "$images/$name.tar" "$bin/$program" "$here/driver/internal/image" && return
    echo "build.sh: packing $name.tar"
    "$bin/kdev-cluster" image --out "$images/$name.tar" --name "kdev.test/$name:1" \
        --entrypoint "/$program" --user "$user" "$bin/$program=/$program"
    done_with "image-$name"
}

build_images() {
    build_driver
    build_pause
    build_coredns
    build_workload
    build_image pause pause 65535
    # Port 53 takes a capability, which the kernel gives to root alone.
    build_image coredns coredns 0
    build_image workload workload 65532
}

[ $# -gt 0 ] || set -- driver workload images kubernetes
for part in "$@"; do
    case $part in
    kubernetes | coredns | driver | workload | images) "build_$part" ;;
    *)
        echo "build.sh: there is no part $part" >&2
        exit 2
        ;;
    esac
done
