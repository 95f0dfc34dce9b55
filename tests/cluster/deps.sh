#!/bin/sh
# Installs what the test cluster takes from Debian, and only what is missing: without
# anything to do it asks dpkg once per package and is done. Starts no service.
# (kubectl isn't in the list: Debian 12 has 1.20, build.sh makes one of the servers' version.)
set -eu

packages="
bind9-dnsutils
ca-certificates
conntrack
containerd
containernetworking-plugins
curl
gcc
iproute2
iptables
iputils-ping
libc6-dev
nftables
procps
runc
sudo
util-linux
"

missing=""
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "deps.sh: missing packages:$missing" >&2
    echo "deps.sh: run this script as root to install them" >&2
    exit 1
fi

# Debian's way to say "don't start services" is a policy file. It is ours only
# when there was none, and then it goes away again.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
fi

export DEBIAN_FRONTEND=noninteractive
echo "deps.sh: installing:$missing"
apt-get update -qq
# shellcheck disable=SC2086 # a list of words on purpose
apt-get install -y -qq --no-install-recommends $missing
