#!/bin/sh
# Make a small Debian image with Python for machines that reach Debian packages but no image registry.
# The packages come from where this machine's own apt gets them. Needs root, debootstrap and the docker command.
#
#   sudo deploy/scripts/build-base-image.sh [TAG]        default tag: opsroom/base
set -eu

TAG=${1:-opsroom/base}
PACKAGES=python3,python3-venv,ca-certificates

fail() {
    echo "build-base-image: $*" >&2
    exit 1
}

[ "$(id -u)" -eq 0 ] || fail "Only root can make a base image, because debootstrap changes root. Run it with sudo, or give a base image."
for program in apt-get debootstrap docker tar; do
    command -v "$program" >/dev/null 2>&1 || fail "There is no $program command. Install it: apt-get install debootstrap docker.io"
done

. /etc/os-release
[ "${ID:-}" = debian ] || fail "This is ${ID:-not Debian}: only Debian's own packages are used here. Give a base image instead."
MIRROR=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="$VERSION_CODENAME" '$2 == release && $3 == "main" { print $1; exit }')
[ -n "$MIRROR" ] || fail "apt knows no source of $VERSION_CODENAME main. See /etc/apt/sources.list"

WORK=$(mktemp -d)
trap 'rm -rf --one-file-system "$WORK"' EXIT
trap 'exit 1' INT TERM

echo "Debian $VERSION_CODENAME with Python, from this machine's apt source"
debootstrap --variant=minbase --include="$PACKAGES" "$VERSION_CODENAME" "$WORK/root" "$MIRROR" >"$WORK/log" 2>&1 || {
    tail -n 15 "$WORK/log" >&2
    fail "debootstrap failed. The lines above are the end of what it said."
}

cd "$WORK/root"
rm -rf usr/share/doc usr/share/locale usr/share/man usr/share/info usr/share/lintian usr/share/zoneinfo/right \
    var/cache/apt/* var/cache/debconf/* var/lib/apt/lists/* var/log/* etc/apt/sources.list
find usr/lib -name __pycache__ -type d -prune -exec rm -rf {} +
cd "$WORK"

echo "Importing it as $TAG"
tar -C root -c . | docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$TAG" >/dev/null
echo "$TAG is there: $(docker image inspect --format '{{.Size}}' "$TAG" | awk '{ printf "%.0f MB", $1 / 1e6 }')."
