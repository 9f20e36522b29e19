"""Malformed uploads of many classes, the same ones every time: each must be refused in a sentence."""

from collections.abc import Callable
from random import Random
from typing import Final

_WORKER: Final = """\
apiVersion: hiclaw.io/v1beta1
kind: Worker
metadata:
  name: {name}
spec:
  model: qwen3.5-plus
"""
_FIELDS: Final = ("modle", "skils", "souls", "runtimes", "imagee", "mcpServer", "channelPolicies", "envs", "x", "Model")
_TEXT_FIELDS: Final = ("image", "identity", "soul", "agents", "package", "state", "runtime")
_LIST_FIELDS: Final = ("skills", "mcpServers", "expose", "accessEntries")
_WORDS: Final = ("alpha", "bravo", "carol", "delta", "echo", "fox", "golf", "hotel")

Make = Callable[[Random], str | bytes]


def _doc(rng: Random, extra: str = "", name: str = "") -> str:
    return _WORKER.format(name=name or _name(rng)) + extra


def _name(rng: Random) -> str:
    return f"{rng.choice(_WORDS)}-{rng.randrange(10_000)}"


def _twice(rng: Random) -> str:
    document = _doc(rng)
    return f"{document}---\n{document}"


def _deep(rng: Random) -> str:
    depth = rng.randrange(33, 400)
    return _doc(rng, f"  soul: {'[' * depth}{']' * depth}\n")


def _bomb(rng: Random) -> str:
    levels = rng.randrange(3, 12)
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n" + _doc(rng)


def _cut(rng: Random) -> bytes:
    """Cut in the middle of a quoted text."""
    whole = _doc(rng, '  soul: "you are an agent that never ends its sentence"\n').encode()
    return whole[: rng.randrange(whole.index(b'"') + 1, len(whole) - 3)]


def _not_utf8(rng: Random) -> bytes:
    whole = _doc(rng).encode()
    at = rng.randrange(len(whole))
    return whole[:at] + bytes([rng.choice((0x80, 0xC0, 0xF8, 0xFE))]) + b"," + whole[at:]


def _control(rng: Random) -> str:
    whole = _doc(rng)
    at = rng.randrange(len(whole))
    return whole[:at] + chr(rng.choice((0, 1, 7, 8, 27, 0x7F, 0x85, 0x2028))) + whole[at:]


def _without_a_line(rng: Random) -> str:
    lines = _doc(rng, name=_name(rng)).splitlines(keepends=True)
    del lines[rng.choice((0, 1, 3, 5))]
    return "".join(lines)


CLASSES: Final[dict[str, Make]] = {
    "unknown field": lambda r: _doc(r, f"  {r.choice(_FIELDS)}: {_name(r)}\n"),
    "unknown metadata field": lambda r: _doc(r).replace("spec:", f"  {r.choice(_WORDS)}: x\nspec:"),
    "unknown field of the document": lambda r: _doc(r) + f"{r.choice(_WORDS)}: {r.randrange(99)}\n",
    "field missing": _without_a_line,
    "bad name": lambda r: _doc(r, name=r.choice(("Alice {}", "-a{}", "a_{}", "ä{}", "a{}-", "A{}")).format(r.random())),
    "reserved name": lambda r: _doc(r, f"  soul: {_name(r)}\n", name=r.choice(("admin", "opsroom", "manager", "all"))),
    "long name": lambda r: _doc(r, name="a" * r.randrange(64, 500)),
    "unknown kind": lambda r: _doc(r).replace("Worker", r.choice(("worker", "Wroker", "Pod", "Team", "Human", "4"))),
    "unknown version": lambda r: _doc(r).replace("v1beta1", f"v{r.randrange(2, 99)}"),
    "number for text": lambda r: _doc(r, f"  {r.choice(_TEXT_FIELDS)}: {r.randrange(1000)}\n"),
    "truth for text": lambda r: _doc(r, f"  {r.choice(_TEXT_FIELDS)}: {r.choice(('true', 'False', '~', 'null'))}\n"),
    "list for text": lambda r: _doc(r, f"  {r.choice(_TEXT_FIELDS)}: [{_name(r)}]\n"),
    "text for a list": lambda r: _doc(r, f"  {r.choice(_LIST_FIELDS)}: {_name(r)}\n"),
    "text for a map": lambda r: _doc(r, f"  {r.choice(('labels', 'channelPolicy'))}: {_name(r)}\n"),
    "text for a number": lambda r: _doc(r, f'  expose: [{{port: "{r.randrange(1, 65535)}"}}]\n'),
    "number out of range": lambda r: _doc(r, f"  expose: [{{port: {r.randrange(65536, 10**9)}}}]\n"),
    "endless number": lambda r: _doc(r, f"  expose: [{{port: {'9' * r.randrange(20, 5000)}}}]\n"),
    "not a number": lambda r: _doc(r, f"  expose: [{{port: {r.choice(('.nan', '.inf', '-.inf', '.NaN'))}}}]\n"),
    "word not in the list": lambda r: _doc(r, f"  state: {r.choice(('on', 'off', 'running', 'Asleep', _name(r)))}\n"),
    "listed twice": lambda r: _doc(r, "  skills: [{0}, {0}]\n".format(_name(r))),
    "bad skill": lambda r: _doc(r, f"  skills: [../{_name(r)}]\n"),
    "bad image": lambda r: _doc(r, f"  image: --{_name(r)} --privileged\n"),
    "bad package": lambda r: _doc(r, f"  package: file:///x/../../{_name(r)}\n"),
    "password in a URL": lambda r: _doc(r, f"  package: https://{_name(r)}:word@example.org/x.zip\n"),
    "bad user": lambda r: _doc(r, f'  channelPolicy: {{dmDenyExtra: ["@{_name(r)}"]}}\n'),
    "bad label": lambda r: _doc(r, f"  labels: {{a b: {_name(r)}}}\n"),
    "duplicate key": lambda r: _doc(r, f"  model: {_name(r)}\n"),
    "duplicate object": _twice,
    "alias": lambda r: _doc(r, f"  soul: &{r.choice(_WORDS)} x\n  agents: *{r.choice(_WORDS)}\n"),
    "aliases that multiply": _bomb,
    "merge key": lambda r: _doc(r, f"  <<: {{soul: {_name(r)}}}\n"),
    "tag": lambda r: _doc(r, f"  soul: !!{r.choice(('python/object/apply:os.system', 'binary', 'set'))} {_name(r)}\n"),
    "own tag": lambda r: _doc(r, f"  soul: !{_name(r)} x\n"),
    "tag directive": lambda r: f"%TAG !{r.choice(_WORDS)}! x\n---\n{_doc(r)}",
    "key that is a number": lambda r: _doc(r, f"  {r.randrange(100)}: x\n"),
    "key that is a list": lambda r: _doc(r, f"  ? [{_name(r)}]\n  : x\n"),
    "deep nesting": _deep,
    "tab": lambda r: _doc(r, f"  labels:\n\t{_name(r)}: x\n"),
    "open quote": _cut,
    "open list": lambda r: _doc(r, f"  skills: [{_name(r)}\n"),
    "open map": lambda r: _doc(r, f"  labels: {{a: {_name(r)}\n  soul: x\n"),
    "second colon": lambda r: _doc(r, f"  soul: {_name(r)}: you are an agent\n"),
    "no colon": lambda r: _doc(r, f"  soul\n  agents: {_name(r)}\n"),
    "indented too far": lambda r: _doc(r, f"{' ' * r.randrange(3, 12)}soul: {_name(r)}\n"),
    "indented too little": lambda r: _doc(r, f"{' ' * 1}soul: {_name(r)}\n"),
    "value with an at sign": lambda r: _doc(r, f"  soul: @{_name(r)}\n"),
    "bad escape": lambda r: _doc(r, f'  soul: "{_name(r)} \\{r.choice("qwyzcdg")}"\n'),
    "escaped control": lambda r: _doc(r, f'  soul: "{_name(r)} \\0"\n'),
    "block with text behind": lambda r: _doc(r, f"  soul: | {_name(r)}\n    x\n"),
    "not a map": lambda r: f"- {_name(r)}\n",
    "only words": lambda r: f"{_name(r)}\n",
    "nothing": lambda r: "# nothing\n" * r.randrange(50),
    "not UTF-8": _not_utf8,
    "UTF-16": lambda r: _doc(r).encode(r.choice(("utf-16", "utf-16-le", "utf-16-be"))),
    "control character": _control,
    "too many documents": lambda r: "---\na: b\n" * r.randrange(2001, 2100),
    "too many values": lambda r: _doc(r, f"  skills: [{'a, ' * r.randrange(50_001, 52_000)}]\n"),
    "too large": lambda r: b"#" * (2**20 + r.randrange(1, 1000)),
    "noise": lambda r: r.randbytes(r.randrange(8, 200)),
}


def malformed(n: int = 200, seed: int = 7) -> list[tuple[str, bytes]]:
    """Make `n` distinct malformed inputs, going round all classes. The same arguments give the same inputs."""
    rng = Random(seed)
    made: dict[bytes, str] = {}
    names = list(CLASSES)
    for turn in range(100 * n):
        if len(made) == n:
            break
        name = names[turn % len(names)]
        content = CLASSES[name](rng)
        made.setdefault(content if isinstance(content, bytes) else content.encode(), name)
    return [(name, content) for content, name in made.items()]
