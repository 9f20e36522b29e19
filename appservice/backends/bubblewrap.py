"""How a sandbox of bubblewrap is described and launched. Pure, but for looking at the Python it is to run.

The launch is a small shell that outlives the control plane: it notes its own pid and start time, puts itself under the
limits, runs bubblewrap and notes the exit code. When it dies, the sandbox dies with it.

As root the shell first mounts the folders of the sandbox where everybody may look, in a mount namespace of its own,
because bubblewrap then runs as the agent's user, who may not walk through root's folders.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appservice.backends.inside import HOME, HOME_BYTES, OPEN_FILES, TMP_BYTES, AgentUser, environment
from appservice.backends.protocol import AGENT_DIR, GATEWAY_DIR, SECRETS_DIR, Sandbox
from appservice.errors import Unavailable

PACKAGES = "/opt/opsroom"
COMMAND = ("-P", "-m", "runtime")
LAUNCHER_ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
# /proc/1/environ and /proc/1/cmdline can be read inside: bubblewrap gets an empty environment and its options by fd.
_NAMESPACES = ("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL")
_STAGE = "/run/opsroom-stage"

LAUNCHER = r"""
set -eu
umask 077
cd "$1"; count=$2; shift 2
exec 9>lock
flock -n 9 || exit 0
for group in $OPSROOM_CGROUPS; do echo $$ >"$group"; done
n=0
if [ -n "$OPSROOM_USER" ]; then
    mkdir -p "$OPSROOM_STAGE"; chmod 0755 "$OPSROOM_STAGE"
    mount -t tmpfs -o mode=0755,size=1m opsroom "$OPSROOM_STAGE"
fi
while [ "$n" -lt "$count" ]; do
    if [ -n "$OPSROOM_USER" ]; then
        mkdir "$OPSROOM_STAGE/$n"; mount --bind "$1" "$OPSROOM_STAGE/$n"
    fi
    n=$((n + 1)); shift
done
as_agent=
[ -z "$OPSROOM_USER" ] || as_agent="setpriv --reuid ${OPSROOM_USER%:*} --regid ${OPSROOM_USER#*:} --clear-groups --"
born() { read -r line <"/proc/$$/stat"; set -- ${line##*) }; shift 19; echo "$1"; }
read -r boot </proc/sys/kernel/random/boot_id
echo "$$ $(born) $boot" >pid.new
mv pid.new pid
limits=$OPSROOM_LIMITS
unset OPSROOM_CGROUPS OPSROOM_LIMITS OPSROOM_STAGE OPSROOM_USER
set +e
exec >>log 2>&1
prlimit $limits -- env -i $as_agent bwrap --args 8 --seccomp 6 --info-fd 7 -- "$@" 6<filter 7>info 8<options 9>&-
echo $? >exit.new
mv exit.new exit
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What the launcher is given. `staged`: folders it mounts for the agent's user; `options`: of bubblewrap."""

    staged: tuple[str, ...]
    options: tuple[str, ...]
    command: tuple[str, ...]


def launch(
    sandbox: Sandbox, *, python: str, command: Sequence[str] | None, etc: Path, stage: bool, count_inside: bool
) -> Launch:
    """Describe one sandbox. `etc` holds its `passwd`, `group` and `hosts`.

    `count_inside`: limit its processes from inside, where only they count, as its user is this machine's too.
    """
    read_only = {**{str(folder): str(folder) for folder in python_folders(python)}, **_packages()}
    folders = [
        *(("--ro-bind", source, target) for source, target in read_only.items()),
        ("--ro-bind", str(etc), "/etc/opsroom"),
        ("--ro-bind", str(sandbox.gateway_dir.resolve()), GATEWAY_DIR),
        ("--bind", str(sandbox.agent_dir.resolve()), AGENT_DIR),
        ("--ro-bind", str(sandbox.secrets_dir.resolve()), SECRETS_DIR),
    ]
    sources = [f"{_STAGE}/{n}" if stage else source for n, (_, source, _) in enumerate(folders)]
    binds = [part for (how, _, target), source in zip(folders, sources, strict=True) for part in (how, source, target)]
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": PACKAGES, **environment(sandbox)}
    counted = ("/usr/bin/prlimit", f"--nproc={sandbox.limits.pids}", "--") if count_inside else ()
    return Launch(
        staged=tuple(source for _, source, _ in folders),
        options=(
            *_NAMESPACES,
            *("--die-with-parent", "--new-session", "--clearenv"),
            *(part for name, value in variables.items() for part in ("--setenv", name, value)),
            *_SYSTEM,
            *binds,
            *(
                part
                for name in ("passwd", "group", "hosts")
                for part in ("--symlink", f"opsroom/{name}", f"/etc/{name}")
            ),
            *("--hostname", sandbox.name, "--chdir", HOME, "--remount-ro", "/dev", "--remount-ro", "/"),
        ),
        command=(*counted, *(command or (python, *COMMAND))),
    )


_SYSTEM = (
    *("--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/sbin", "/sbin"),
    *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
    *(
        "--ro-bind-try",
        "/etc/ssl/certs",
        "/etc/ssl/certs",
        "--ro-bind-try",
        "/etc/ssl/openssl.cnf",
        "/etc/ssl/openssl.cnf",
    ),
    *(
        "--ro-bind-try",
        "/etc/alternatives",
        "/etc/alternatives",
        "--ro-bind-try",
        "/etc/ld.so.cache",
        "/etc/ld.so.cache",
    ),
    *("--proc", "/proc", "--dev", "/dev"),
    *("--perms", "0700", "--size", str(HOME_BYTES), "--tmpfs", HOME),
    *(
        part
        for folder in ("/tmp", "/dev/shm")  # noqa: S108
        for part in ("--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", folder)
    ),
)


def probe_command(user: AgentUser) -> tuple[str, ...]:
    """Command that fails, with bubblewrap's own sentence, where agents could not be sandboxed."""
    as_agent = ("setpriv", "--reuid", str(user.uid), "--regid", str(user.gid), "--clear-groups", "--")
    return (*(as_agent if os.geteuid() == 0 else ()), "bwrap", *_NAMESPACES, "--ro-bind", "/", "/", "true")


def launcher_command(folder: Path, what: Launch, *, stage: bool) -> tuple[str, ...]:
    own_mounts = ("unshare", "--mount", "--propagation", "slave") if stage else ()
    shell = ("sh", "-c", LAUNCHER, "opsroom-agent", str(folder), str(len(what.staged)))
    return ("setsid", "--fork", *own_mounts, *shell, *what.staged, *what.command)


def launcher_environment(*, user: AgentUser | None, cgroups: Sequence[Path], limits: Sequence[str]) -> dict[str, str]:
    """Variables of the launcher. `user`: drop to it (root only); `limits`: options of prlimit."""
    return {
        **LAUNCHER_ENVIRONMENT,
        "OPSROOM_USER": "" if user is None else str(user),
        "OPSROOM_STAGE": _STAGE,
        "OPSROOM_CGROUPS": " ".join(str(path) for path in cgroups),
        "OPSROOM_LIMITS": " ".join(
            (*limits, f"--nofile={OPEN_FILES}:{OPEN_FILES}", "--core=0:0", f"--fsize={HOME_BYTES}:{HOME_BYTES}")
        ),
    }


def python_folders(python: str) -> list[Path]:
    """Return the folders a Python needs beyond /usr: its virtual environment and its installation."""
    prefix = Path(python).parent.parent
    needed = [prefix]
    marker = prefix / "pyvenv.cfg"
    if marker.is_file():
        lines = (line.partition("=") for line in marker.read_text().splitlines())
        homes = [value.strip() for key, _, value in lines if key.strip() == "home"]
        needed += [Path(home).parent for home in homes]
    needed.append(Path(python).resolve().parent.parent)
    return [folder for folder in dict.fromkeys(needed) if not folder.is_relative_to("/usr") and folder != Path("/")]


def _packages() -> dict[str, str]:
    """Only the native agent's package is shown, never the control plane's."""
    found = importlib.util.find_spec("runtime")
    if found is None or not found.submodule_search_locations:
        raise Unavailable("The native agent is not installed.", fix="Install it: `pip install opsroom[agent]`.")
    return {str(found.submodule_search_locations[0]): f"{PACKAGES}/runtime"}
