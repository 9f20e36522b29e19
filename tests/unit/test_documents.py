"""How a file becomes documents, and what is said when it does not."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appservice.errors import Invalid, Problem
from appservice.resources.compose import MAX_DEPTH, MAX_NODES, compose
from appservice.resources.document import read
from appservice.resources.printing import to_yaml
from appservice.resources.registry import parse
from appservice.resources.scalars import Refused, resolve
from appservice.resources.source import decode
from tests.support.malformed import CLASSES, malformed

GOLDEN = Path(__file__).parents[1] / "golden" / "yaml_problems.txt"
JARGON = re.compile(
    r"Traceback|Error\b|\btype=|Input should|NoneType|\bdict\b|\bstr\b|\btuple\b|pydantic|<class|\\x|\\u"
)
TEXTS = (
    *("no", "on", "yes", "off", "y", "N", "No", "ON", "tRue", "nULL"),
    *("0123", "00", "1_000", "12:30:45", "2026-01-01", "2026-01-01T10:00:00Z", "1.2.3", "0b11", "1e", "+", "-", "."),
)
HEAD = "apiVersion: hiclaw.io/v1beta1\nkind: Worker\nmetadata:\n  name: alice\nspec:\n  model: m\n"


def problems_of(data: bytes | str, source: str = "team.yaml") -> str:
    with pytest.raises(Invalid) as caught:
        parse(data.encode() if isinstance(data, str) else data, source=source)
    return str(caught.value)


def problems_or_none(data: bytes) -> tuple[Problem, ...]:
    try:
        parse(data, source="x.yaml")
    except Invalid as error:
        return error.problems
    return ()


def values_of(text: str) -> list[object]:
    return [tree.value for tree in read(text.encode(), source="x.yaml").trees]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in TEXTS),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("Null", None),
        ("0", 0),
        ("-17", -17),
        ("+4", 4),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.0", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
    ],
)  # fmt: skip
def test_an_unquoted_value_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = resolve(text)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".nan", ".inf", "-.INF", "1e999", "9" * 19, "9" * 5000, "0x" + "f" * 40])
def test_a_value_without_safe_meaning_is_refused(text: str) -> None:
    assert isinstance(resolve(text), Refused)


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=200)
def test_any_bytes_give_documents_or_located_problems(data: bytes) -> None:
    assert all(problem.what for problem in problems_or_none(data))


@given(st.text(alphabet="ab:-[]{},&*!|>'\"%@#? \n\t~<0.", max_size=200))
@settings(deadline=None, max_examples=300)
def test_any_yaml_punctuation_gives_documents_or_located_problems(text: str) -> None:
    found = problems_or_none((HEAD + text).encode())[:10]

    assert all(problem.what and problem.where.startswith("x.yaml") for problem in found)


@pytest.mark.parametrize("unit", ["[", "{a: ", "- ", "? ", "a: 1\n", "- [a,b]\n", "a: &x b\n", "-\n ", "%TAG !a! b\n"])
def test_the_work_for_hostile_input_is_bounded(unit: str) -> None:
    text = (unit * (2**20 // len(unit)))[: 2**20]

    composed = compose(decode(text.encode(), source="x.yaml"))

    assert composed.nodes <= MAX_NODES + 1
    assert composed.faults


@pytest.mark.parametrize(("depth", "fine"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_nesting_is_limited(depth: int, *, fine: bool) -> None:
    composed = compose(decode(("[" * depth + "]" * depth).encode(), source="x.yaml"))

    assert (not composed.faults) is fine


def test_a_byte_order_mark_is_accepted() -> None:
    assert parse(b"\xef\xbb\xbf" + HEAD.encode(), source="x.yaml")[0].name == "alice"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_counted_the_same_for_every_kind_of_line_end(newline: str) -> None:
    text = (HEAD + "  modle: x\n").replace("\n", newline)

    assert "line 7, spec.modle" in problems_of(text)


def test_each_document_keeps_its_own_text_with_its_comments() -> None:
    first = "# about alice\n" + HEAD + "  soul: x # why\n"
    second = "# about bob\n" + HEAD.replace("alice", "bob")

    alice, bob = parse(f"{first}---\n{second}---\n".encode(), source="x.yaml")

    assert (alice.text, alice.line) == (first, 2)
    assert (bob.text, bob.line) == (second, 11)


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n"])
@pytest.mark.parametrize("block", ["|", "|-", "|+", ">"])
def test_the_text_of_a_document_keeps_the_end_of_a_block(block: str, end: str) -> None:
    file = f"{HEAD}  soul: {block}\n    hello{end}"

    for document in parse(f"{HEAD.replace('alice', 'bob')}---\n{file}".encode(), source="x.yaml"):
        assert parse(document.text.encode(), source="x.yaml")[0].data == document.data


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.text("xy z#'\"-:\n", max_size=9), min_size=1), min_size=1, max_size=4
    )
)
@settings(deadline=None)
def test_the_text_of_a_document_reads_as_that_document(documents: list[dict[str, str]]) -> None:
    file = "---\n".join(f"# comment\n{to_yaml(document)}" for document in documents)

    trees = read(file.encode(), source="x.yaml").trees

    assert [values_of(tree.text) for tree in trees] == [[document] for document in documents]


CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
TRICKY = [
    "no",
    "on",
    "1e5",
    "0123",
    "true",
    "~",
    "",
    "1.0",
    "0x1F",
    ".nan",
    "<<",
    "@a",
    "- a",
    "a: b",
    " a",
    "a\n",
    "\u2028",
]
SCALARS = (
    st.text(max_size=30).filter(lambda text: not CONTROL.search(text))
    | st.sampled_from(TRICKY)
    | st.booleans()
    | st.none()
    | st.integers(-(10**9), 10**9)
)  # fmt: skip
KEYS = st.from_regex(r"[a-z][a-zA-Z0-9./-]{0,12}", fullmatch=True)
TREES = st.dictionaries(
    KEYS, st.recursive(SCALARS, lambda s: st.lists(s, max_size=4) | st.dictionaries(KEYS, s, max_size=4), max_leaves=8)
)


@given(TREES.filter(bool))
@settings(deadline=None, max_examples=100)
def test_what_is_printed_reads_back_as_the_same(tree: dict[str, object]) -> None:
    assert values_of(to_yaml(tree)) == [tree]


@pytest.mark.parametrize("key", ["?", "? [a]", "? {soul: 1}", "? 1", "? ~", "? true"])
def test_a_key_that_is_no_text_is_the_only_problem_of_its_map(key: str) -> None:
    found = problems_or_none(f"{HEAD}  {key}\n  : {{model: x, soul: y}}\n  soul: z\n".encode())

    assert [problem.where for problem in found] == ["x.yaml, line 7, spec"]


def test_a_text_of_several_lines_is_printed_as_a_block() -> None:
    assert to_yaml({"soul": "one\ntwo\n", "list": ["no"]}) == "soul: |\n  one\n  two\nlist:\n  - 'no'\n"


def test_two_hundred_malformed_inputs_are_refused_in_plain_words() -> None:
    inputs = malformed()

    assert len({data for _, data in inputs}) == 200
    assert {name for name, _ in inputs} == set(CLASSES)
    for name, data in inputs:
        for line in problems_of(data).splitlines():
            assert len(line) < 400 and not JARGON.search(line), (name, line)


def test_malformed_inputs_are_the_same_every_time() -> None:
    assert malformed(50, seed=3) == malformed(50, seed=3) != malformed(50, seed=4)


def test_at_most_ten_problems_are_shown_and_the_rest_counted() -> None:
    extra = "".join(f"  {letter}{letter}: 1\n" for letter in "bcdfghjklmnpqrs")

    lines = problems_of(HEAD + extra).splitlines()

    assert len(lines) == 11
    assert lines[-1] == "And 5 more problems in team.yaml."
    assert [int(re.search(r"line (\d+)", line)[1]) for line in lines[:-1]] == list(range(7, 17))  # type: ignore[index]


def test_equal_problems_are_told_once_when_there_are_many() -> None:
    found = problems_of("---\n".join(f"{HEAD.replace('alice', f'a{i}')}  modle: x\n" for i in range(12)))

    assert found.count("\n") == 0
    assert found.endswith("Did you mean `model`? The same on lines 15, 23, 31 and 8 more.")


@pytest.mark.parametrize(
    "line",
    [
        "  apiKey: sk-abcdefgh12345678",
        "  password: hunter2",
        "  skills: sk-ABCDEFGH12345678",
        "  image: ghp_abcdefghijkl1234 x",
        "  package: https://me:pw@x.org/a",
    ],
)
def test_what_looks_like_a_secret_is_not_repeated(line: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(f"{HEAD}{line}\n".encode(), source="x.yaml")

    said = "".join(f"{problem}{problem.excerpt}" for problem in caught.value.problems)
    assert line.split(": ")[1] not in said


def test_a_file_name_cannot_break_a_message_into_lines() -> None:
    assert problems_of("[", source="a\nb\x1b[31m.yaml").count("\n") == 0


def test_a_short_line_is_shown_with_a_caret_below_the_field() -> None:
    with pytest.raises(Invalid) as caught:
        parse(f"{HEAD}  modle: gpt\n".encode(), source="x.yaml")

    assert caught.value.problems[0].excerpt == "7 |   modle: gpt\n  |   ^^^^^"


def golden_cases() -> dict[str, bytes]:
    """The first input of each class, noise left out, and some files with several mistakes."""
    cases = {name: data for name, data in reversed(malformed(2 * len(CLASSES), seed=1)) if name != "noise"}
    cases["many mistakes"] = (
        HEAD.replace("alice", "Payments Bot")
        + "  modle: gpt-5\n  soul: true\n  skills: notes\n  state: running\n"
        + '  expose: [{port: "80"}, {port: 0123}, {prot: 1}]\n'
    ).encode()
    cases["two documents"] = (HEAD + "  state: on\n---\n" + HEAD + "  labels: {v: 1.0}\n").encode()
    cases["a broken second document"] = (HEAD + "  modle: x\n---\nkind: [\n").encode()
    return cases


def test_messages_are_those_of_the_golden_file() -> None:
    parts = []
    for name, data in sorted(golden_cases().items()):
        with pytest.raises(Invalid) as caught:
            parse(data, source="team.yaml")
        shown = "\n".join(f"{problem}\n{problem.excerpt}".strip() for problem in caught.value.problems)
        parts.append(f"== {name}\n{caught.value.what}\n{shown}\n")
    said = "\n".join(parts)
    if os.environ.get("OPSROOM_UPDATE_GOLDEN"):
        GOLDEN.write_text(said, encoding="utf-8")

    assert said == GOLDEN.read_text(encoding="utf-8"), "set OPSROOM_UPDATE_GOLDEN=1 and review the difference"
