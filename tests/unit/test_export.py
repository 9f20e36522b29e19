"""Everything that is declared as one file, which declares it again."""

import yaml

from appservice.ops.looking import exported
from appservice.resources import registry
from tests.support.declared import Company
from tests.support.rosters import human, manager

AGENT: dict[str, object] = {
    "model": "qwen3.5-plus",
    "identity": "You belong to the people who look after the pages.",
    "soul": "You split the work, give each part to one of your team, and check what comes back.\n" * 3,
    "skills": ["notes"],
    "channelPolicy": {"groupAllowExtra": ["bob", "carol"], "dmDenyExtra": ["dave"]},
    "labels": {"tier": "demo"},
}


def ordinary(count: int) -> str:
    """So many objects as people have them: one in ten is a team of four, three in ten are people."""
    parts = [manager()]
    for number in range(1, count):
        if number % 10 == 0:
            workers = [{"name": f"t{number}-{index}", "model": "m", "soul": AGENT["soul"]} for index in range(3)]
            parts.append(written("Team", f"t{number}", {"leader": {"name": f"l{number}", **AGENT}, "workers": workers}))
        elif number % 10 < 4:
            parts.append(human(f"h{number}", 2, f"accessibleTeams: [t{number // 10 * 10}]"))
        else:
            parts.append(written("Worker", f"w{number}", AGENT))
    return "".join(parts)


def written(kind: str, name: str, spec: dict[str, object]) -> str:
    document = {"apiVersion": "hiclaw.io/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return f"---\n{yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False)}"


def test_an_export_of_a_thousand_objects_can_be_uploaded_again() -> None:
    company = Company(ordinary(1000))
    answer = exported(list(company.stored.values()))
    assert answer.text == "1,000 objects, as they were written. An upload declares them again."
    assert answer.file is not None
    again = registry.parse(answer.file[1].encode(), source="opsroom.yaml")
    assert [registry.canonical(one) for one in again] == [registry.canonical(one) for one in company.documents]


def test_an_export_that_no_upload_may_be_as_large_as_says_so() -> None:
    [stored] = Company(human("bob", 1)).stored.values()
    answer = exported([stored] * 2001)
    assert (
        answer.text == "2,001 objects, as they were written. That is more than one upload takes: split it into several."
    )
    assert exported([]).text == "Nothing is declared yet."


def test_remarks_above_a_file_come_back_with_its_first_object() -> None:
    zoe = "# About us all.\n\n" + human("zoe", 1)
    texts = [stored for text in (human("bob", 1), zoe) for stored in Company(text).stored.values()]
    answer = exported(texts)
    assert answer.file is not None
    again = registry.parse(answer.file[1].encode(), source="opsroom.yaml")
    assert [one.text.rstrip() for one in again] == [stored.text.rstrip() for stored in texts]
    assert again[1].text.startswith("# About us all.")
