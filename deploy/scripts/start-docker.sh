#!/bin/sh
# Start Docker Engine on its default socket where no init system does it (CI, containers, small virtual machines).
# Does nothing when an engine answers already. Needs root and Debian's package docker.io.
#
#   sudo deploy/scripts/start-docker.sh
set -eu

SOCKET=/var/run/docker.sock
LOG=${DOCKERD_LOG:-/var/log/dockerd.log}
WAIT_S=${DOCKERD_WAIT_S:-30}

answers() {
    docker --host "unix://$SOCKET" version --format '{{.Server.Version}}' 2>/dev/null
}

fail() {
    echo "start-docker: $*" >&2
    exit 1
}

command -v docker >/dev/null 2>&1 || fail "There is no docker command. Install it: apt-get install docker.io iptables"

if version=$(answers); then
    echo "Docker Engine $version answers on $SOCKET."
    exit 0
fi

[ "$(id -u)" -eq 0 ] || fail "No Docker Engine answers on $SOCKET, and only root can start one."
command -v dockerd >/dev/null 2>&1 || fail "There is no dockerd command. Install it: apt-get install docker.io iptables"

if [ -d /run/systemd/system ]; then
    systemctl start docker || fail "systemd could not start Docker. See: journalctl -u docker"
else
    # Two callers at once start one engine: the second waits for the lock, then finds it answering.
    exec 9>/run/opsroom-start-docker.lock
    flock -w "$WAIT_S" 9 || fail "Another start of Docker Engine hangs. See $LOG"
    if ! answers >/dev/null; then
        setsid dockerd >>"$LOG" 2>&1 </dev/null 9>&- &
        engine=$!
    fi
fi

waited=0
until version=$(answers); do
    if [ -n "${engine:-}" ] && ! kill -0 "$engine" 2>/dev/null; then
        tail -n 5 "$LOG" >&2
        fail "dockerd ended at once. The lines above are the end of $LOG"
    fi
    [ "$waited" -lt "$WAIT_S" ] || fail "Docker Engine does not answer after $WAIT_S s. See $LOG"
    sleep 1
    waited=$((waited + 1))
done
echo "Docker Engine $version answers on $SOCKET."
