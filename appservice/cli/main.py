"""The command table of `opsroom`, and what each exit code means. What can be typed into the ops room can be typed here.

0 done; 1 failed; 2 wrong usage or invalid input; 3 refused; 5 nothing answers; 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import appservice
from appservice.cli import console
from appservice.errors import Denied, Invalid, OpsroomError, Unavailable
from appservice.ops import shell
from appservice.ops.commands import Command

_EXIT_CODES: tuple[tuple[type[OpsroomError], int], ...] = ((Invalid, 2), (Denied, 3), (Unavailable, 5))
_INTERRUPTED = 130
_DEFAULT_DATA = Path(".opsroom")

_UP_EXAMPLES = """\
examples:
  opsroom up                                   everything on this machine
  opsroom up --data-dir ~/ops --port 8090      another place, another port for the web client
  opsroom up --homeserver https://matrix.example.org --server-name example.org \\
             --operator @me:example.org --listen 0.0.0.0:9000 --public-url http://ops.example.org:9000
                                               with a homeserver of your own

Providers also come from the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...) or from opsroom.yaml."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(shell.folded(sys.argv[1:] if argv is None else argv))
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except OpsroomError as error:
        console.complain(error)
        return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)
    except KeyboardInterrupt:
        console.say("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        console.complain(f"{error.filename or 'the system'}: {error.strerror or error}.")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="opsroom", description="Run teams of AI agents from a Matrix room.", allow_abbrev=False
    )
    parser.set_defaults(run=_hints, data_dir=None)
    verbs = parser.add_subparsers(metavar="COMMAND")
    _add_up(_verb(verbs, "up", _up, "start everything and stay; Ctrl-C stops it", epilog=_UP_EXAMPLES))
    for name, run, text in (
        ("info", _info, "show what runs: addresses, rooms, process ids"),
        ("doctor", _doctor, "check every part and say how to mend it"),
    ):
        verb = _verb(verbs, name, run, text)
        _add_data_dir(verb)
        verb.add_argument("--json", action="store_true", help="for machines: stable keys, no talk")
    _add_data_dir(_verb(verbs, "serve", _serve, "run the control plane alone, as a service does"))
    _add_data_dir(_verb(verbs, "gateway", _gateway, "run the gateway alone, as a service does"))
    image = _verb(verbs, "image", _image, "build the agents' container image")
    image.add_argument("action", choices=["build"])
    _add_data_dir(image)
    image.add_argument(
        "--if-missing", action="store_true", help="only when none is there that was built of what is installed now"
    )
    image.add_argument("--base", metavar="IMAGE", help="any Debian with Python; default: one that can be had here")
    for command in shell.COMMANDS.values():
        _add_command(verbs, command)
    completion = _verb(verbs, "completion", _completion, "print what makes a shell complete these commands")
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    schema = _verb(verbs, "schema", _schema, "print the JSON Schema of the YAML, for editors")
    schema.add_argument("kind", nargs="?", default="", metavar="KIND", help="of one kind; default: of all")
    schema.add_argument("--pending", action="store_true", help="list the fields that do not take effect yet instead")
    _add_backup(_verb(verbs, "backup", _backup, "write what Opsroom keeps into one file; it may run meanwhile"))
    _add_restore(_verb(verbs, "restore", _restore, "bring that back, or rebuild an empty store from the journal room"))
    _verb(verbs, "version", _version, "print the version")
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    epilog: str = "",
    aliases: Sequence[str] = (),
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(
        name,
        aliases=aliases,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(run=run)
    return verb


def _add_command(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Command) -> None:
    """A command of the room."""

    def obey(options: argparse.Namespace) -> int:
        from appservice.cli import remote

        return remote.run(command.name, remote.client_for(options, data_dir(options.data_dir)), options)

    examples = "\n".join(["examples:", *(f"  {example}" for example in command.examples)])
    verb = _verb(verbs, command.name, obey, command.summary, epilog=examples, aliases=command.aliases)
    for argument in command.arguments:
        verb.add_argument(*argument.names, **argument.options)
    where = verb.add_argument_group("which Opsroom")
    _add_data_dir(where)
    where.add_argument("--server", default="", metavar="URL", help="one elsewhere; default: OPSROOM_SERVER")
    where.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with an access token of your Matrix account; default: OPSROOM_TOKEN_FILE",
    )


def _add_data_dir(verb: argparse._ActionsContainer) -> None:
    verb.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="everything Opsroom keeps; default: OPSROOM_DATA_DIR, else .opsroom",
    )


def _add_backup(backup: argparse.ArgumentParser) -> None:
    backup.add_argument("file", type=Path, metavar="FILE", help="the file to write")
    _add_data_dir(backup)
    backup.add_argument("--with-keys", action="store_true", help="keys, too: encrypted with a passphrase")
    backup.add_argument("--passphrase-file", type=Path, metavar="FILE", help="file with that passphrase")


def _add_restore(restore: argparse.ArgumentParser) -> None:
    restore.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a file that `opsroom backup` wrote")
    _add_data_dir(restore)
    restore.add_argument("--from-room", action="store_true", help="from the journal instead, into an empty store")
    restore.add_argument("--passphrase-file", type=Path, metavar="FILE", help="file with the passphrase of its keys")
    restore.add_argument("--without-keys", action="store_true", help="leave its keys out; those in the folder stay")
    restore.add_argument("--force", action="store_true", help="into a folder that is not empty; what it had is kept")


def _add_up(up: argparse.ArgumentParser) -> None:
    _add_data_dir(up)
    up.add_argument("--port", type=int, metavar="N", help="port of the web client; default 8080")
    up.add_argument("--no-web", action="store_true", help="without the web client")
    up.add_argument("--backend", choices=["auto", "docker", "process"], help="where agents run")
    up.add_argument("--operator", metavar="NAME", help="name or Matrix id of the first operator; default op")
    model = up.add_argument_group("with a model provider")
    model.add_argument("--provider-url", metavar="URL", help="any OpenAI-shaped one, up to /v1")
    model.add_argument("--provider-key-file", type=Path, metavar="FILE", help="file with its key")
    own = up.add_argument_group("with a homeserver of your own")
    own.add_argument("--homeserver", metavar="URL", help="its client-server API")
    own.add_argument("--server-name", metavar="NAME", help="the part of its Matrix ids after the colon")
    own.add_argument("--registration", type=Path, metavar="FILE", help="registration.yaml; written if missing")
    own.add_argument("--listen", metavar="HOST:PORT", help="where Opsroom listens for it; default 127.0.0.1:9000")
    own.add_argument("--public-url", metavar="URL", help="how it reaches Opsroom, if not at that address")
    others = up.add_argument_group("with a gateway or storage of your own")
    others.add_argument(
        "--gateway-root", type=Path, metavar="DIR", help="state directory of an Envoy that runs elsewhere"
    )
    others.add_argument("--storage-endpoint", metavar="URL", help="S3 endpoint")
    others.add_argument("--storage-access-key", metavar="ID", help="id of its root key")
    others.add_argument("--storage-secret-key-file", type=Path, metavar="FILE", help="file with the secret of that key")
    others.add_argument("--storage-users", choices=["iam", "minio"], help="how it makes users")


def _hints(_options: argparse.Namespace) -> int:
    from appservice.cli.info import summary

    console.answer(summary(data_dir(None)))
    return 0


def _up(options: argparse.Namespace) -> int:
    from appservice.cli.up import up

    return up(options, data_dir(options.data_dir))


def _info(options: argparse.Namespace) -> int:
    from appservice.cli.info import info

    return info(data_dir(options.data_dir), as_json=options.json)


def _doctor(options: argparse.Namespace) -> int:
    from appservice.cli.doctor import doctor

    return doctor(data_dir(options.data_dir), as_json=options.json)


def _serve(options: argparse.Namespace) -> int:
    from appservice.cli.lean import lean

    with lean():
        from appservice.app import run
        from appservice.config import load

    return run(load(data_dir(options.data_dir)))


def _gateway(options: argparse.Namespace) -> int:
    from appservice.cli.gateway import gateway

    return gateway(data_dir(options.data_dir))


def _image(options: argparse.Namespace) -> int:
    from appservice.cli.image import build

    return build(data_dir(options.data_dir), base=options.base, if_missing=options.if_missing)


def _completion(options: argparse.Namespace) -> int:
    from appservice.cli.completion import completion

    console.answer(completion(_parser(), options.shell))
    return 0


def _schema(options: argparse.Namespace) -> int:
    from appservice.cli.schema import schema

    return schema(options.kind, pending=options.pending)


def _backup(options: argparse.Namespace) -> int:
    from appservice.cli.backup import backup

    return backup(
        data_dir(options.data_dir), options.file, with_keys=options.with_keys, passphrase_file=options.passphrase_file
    )


def _restore(options: argparse.Namespace) -> int:
    from appservice.cli.backup import restore

    return restore(
        data_dir(options.data_dir),
        options.file,
        from_room=options.from_room,
        passphrase_file=options.passphrase_file,
        without_keys=options.without_keys,
        force=options.force,
    )


def _version(_options: argparse.Namespace) -> int:
    console.answer(appservice.__version__)
    return 0


def data_dir(given: Path | None) -> Path:
    """The data directory: the flag, else the environment, else `.opsroom` here."""
    return (given or Path(os.environ.get("OPSROOM_DATA_DIR") or _DEFAULT_DATA)).expanduser().resolve()
