"""`opsroom completion bash|zsh|fish`: made from the parser, so it knows what the parser knows. Names of objects are
asked for while typing."""

import argparse
from collections.abc import Iterator
from typing import Final

from appservice.ops import shell

SHELLS: Final = ("bash", "zsh", "fish")
_NAMES: Final = "opsroom get all -o name 2>/dev/null"


def completion(parser: argparse.ArgumentParser, name: str) -> str:
    """The script for a shell."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[name](parser)


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Name, summary and parser of each command, its other names included."""
    [verbs] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    said = {choice.dest: str(choice.help) for choice in verbs._choices_actions}
    by_parser = {id(verbs.choices[name]): text for name, text in said.items()}
    for name, found in verbs.choices.items():
        yield name, by_parser[id(found)], found


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings]


def _choices(parser: argparse.ArgumentParser) -> list[tuple[str, list[str]]]:
    """Flags, or '' for what stands alone, with the words that can follow."""
    return [
        (flag, [str(one) for one in action.choices])
        for action in parser._actions
        if action.choices
        for flag in action.option_strings or [""]
    ]


def _takes_objects(name: str) -> bool:
    command = next((one for one in shell.COMMANDS.values() if name in (one.name, *one.aliases)), None)
    return command is not None and any(argument.names[0] in ("object", "objects") for argument in command.arguments)


def _bash(parser: argparse.ArgumentParser) -> str:
    verbs = list(_verbs(parser))
    cases = []
    for name, _, found in verbs:
        words = " ".join([*_flags(found), *(word for flag, words in _choices(found) if not flag for word in words)])
        follow = "".join(
            f'            {flag}) COMPREPLY=( $(compgen -W "{" ".join(words)}" -- "$cur") ); return ;;\n'
            for flag, words in _choices(found)
            if flag
        )
        ask = f'words="$words $({_NAMES})"' if _takes_objects(name) else ":"
        before = f'            case "$prev" in\n{follow}            esac\n' if follow else ""
        cases.append(f'        {name})\n{before}            words="{words}"; {ask} ;;\n')
    names = " ".join(name for name, _, _ in verbs)
    return f"""\
# opsroom completion for bash: source it, for example from ~/.bashrc.
_opsroom() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=( $(compgen -W "{names}" -- "$cur") )
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{"".join(cases)}    esac
    COMPREPLY=( $(compgen -W "$words" -- "$cur") )
}}
complete -o default -F _opsroom opsroom"""


def _zsh(parser: argparse.ArgumentParser) -> str:
    verbs = list(_verbs(parser))
    listed = "\n".join(f"        {_quoted(f'{name}:{text}')}" for name, text, _ in verbs)
    cases = []
    for name, _, found in verbs:
        flags = " ".join(_flags(found))
        loose = " ".join(word for flag, words in _choices(found) if not flag for word in words)
        ask = f'${{(f)"$({_NAMES})"}}' if _takes_objects(name) else ""
        follow = "".join(
            f"                {'|'.join(action.option_strings)}) {_zsh_value(action)}; return ;;\n"
            for action in found._actions
            if action.option_strings and action.nargs != 0
        )
        before = f"            case $words[CURRENT-1] in\n{follow}            esac\n" if follow else ""
        files = "" if ask or loose else " _files;"
        words = " ".join(filter(None, (flags, loose, ask)))
        cases.append(f"        {name})\n{before}            compadd -- {words};{files} return ;;")
    body = "\n".join(cases)
    return f"""\
#compdef opsroom
# opsroom completion for zsh: put it into a folder of $fpath as _opsroom.
_opsroom() {{
    local -a verbs
    verbs=(
{listed}
    )
    if (( CURRENT == 2 )); then
        _describe 'command' verbs
        return
    fi
    case $words[2] in
{body}
    esac
    _files
}}
_opsroom "$@\""""


def _zsh_value(action: argparse.Action) -> str:
    return f"compadd -- {' '.join(str(one) for one in action.choices)}" if action.choices else "_files"


def _fish(parser: argparse.ArgumentParser) -> str:
    lines = ["# opsroom completion for fish: put it into ~/.config/fish/completions/opsroom.fish."]
    for name, text, found in _verbs(parser):
        lines.append(f"complete -c opsroom -n __fish_use_subcommand -a {name} -d {_quoted(text)}")
        here = f"complete -c opsroom -n {_quoted(f'__fish_seen_subcommand_from {name}')}"
        for action in found._actions:
            short = [f"-s {flag[1:]}" for flag in action.option_strings if not flag.startswith("--")]
            long = [f"-l {flag[2:]}" for flag in action.option_strings if flag.startswith("--")]
            words = " ".join(str(one) for one in action.choices or ())
            takes = " -x" if words else " -r" if action.option_strings and action.nargs != 0 else ""
            more = takes + (f" -a {_quoted(words)}" if words else "")
            if not action.option_strings and words:
                lines.append(f"{here} -f -a {_quoted(words)}")
            elif short or long:
                lines.append(" ".join([here, *short, *long]) + more)
        if _takes_objects(name):
            lines.append(f"{here} -f -a {_quoted(f'({_NAMES})')}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
