"""Which things of one file would become the same Matrix user: agents and people share their names. Pure."""

from collections.abc import Iterable, Iterator

from appservice.resources import manager, team
from appservice.resources.document import Document
from appservice.resources.human import HumanSpec
from appservice.resources.manager import ManagerSpec
from appservice.resources.source import Fault, FieldPath, shown
from appservice.resources.team import TeamSpec


def faults(documents: Iterable[Document]) -> Iterator[Fault]:
    """A fault for each thing that takes the name of an earlier one. Agents' ids have a prefix and people's have none,
    and still nobody could tell them apart by what is typed: `@name`."""
    earlier: dict[str, str] = {}
    for document in documents:
        for name, words, path in users(document):
            mark = document.tree.mark(path)
            if first := earlier.get(name):
                what = f"{words} has the same name in Matrix as {first}."
                yield Fault(what=what, fix=f"Rename one of them: @{name} can mean only one.", path=path, mark=mark)
            earlier.setdefault(name, f"{words} on line {mark.line}")


def users(document: Document) -> Iterator[tuple[str, str, FieldPath]]:
    """Each user that a document stands for: the name, what has it in words, and where that is written."""
    called, spec = f"{document.kind} {shown(document.name)}", document.spec
    match spec:
        case TeamSpec():
            for member in team.members(document.name, spec):
                yield member.name, f"{member.role.title()} {shown(member.name)} of {called}", (*member.path, "name")
        case ManagerSpec():
            yield manager.agent(document.name, spec)[0], called, ("metadata", "name")
        case HumanSpec(username=username) if username and username != document.name:
            yield document.name, called, ("metadata", "name")
            yield username, f"The user of {called}", ("spec", "username")
        case _:
            yield document.name, called, ("metadata", "name")
