#!/bin/sh
# Makes target/images/nginx.tar of Debian's package, which isn't installed on this machine: nginx and the
# libraries that it loads. Made once; where it can't be had, a line says why, and the benchmark does without.
set -eu

cd "$(dirname "$0")/../.."
image=target/images/nginx.tar
[ ! -e $image ] || exit 0

without() {
    echo "bench: no nginx to compare the router with: $1" >&2
    exit 0
}

command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || without "apt-get and dpkg-deb aren't there"
mkdir -p target/images target/bench
directory=$(mktemp -d target/bench/nginx.XXXXXX)
trap 'rm -rf "$directory"' EXIT

fetch() {
    # What apt runs as may not write here, which it says at length.
    (cd "$directory" && apt-get -qq -o APT::Sandbox::User=root download nginx libpcre2-8-0)
}
# Its lists may be too old to name a file that is still there.
fetch 2> /dev/null || { apt-get update -qq && fetch; } || without "its package can't be fetched"
for package in "$directory"/*.deb; do
    dpkg-deb -x "$package" "$directory/root"
done

program=$directory/root/usr/sbin/nginx
own=$(dirname "$(find "$PWD/$directory/root/usr/lib" -name 'libpcre2-8.so.0')")
libraries=$(LD_LIBRARY_PATH=$own ldd "$program")
case $libraries in
*'not found'*) without "it needs libraries that aren't here: $libraries" ;;
esac
# "NAME => PATH (ADDRESS)", or the loader's "PATH (ADDRESS)". In the image all are where the loader looks.
files=$(printf '%s\n' "$libraries" | grep -o '/[^ ]*' | sed "s|\(.*\)|\1=\1|; s|=$own|=/lib|")
# shellcheck disable=SC2086 # a list of words on purpose
target/cluster/bin/kdev-cluster image --out $image --name kdev.test/nginx:1 \
    --entrypoint /nginx --user 65532 "$program=/nginx" $files
