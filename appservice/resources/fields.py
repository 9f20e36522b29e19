"""The fields of a model as people write them. Pure."""

from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from appservice.resources.source import FieldPath


def field_names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(info.alias or name for name, info in model.model_fields.items())


def model_at(model: type[BaseModel], path: FieldPath) -> type[BaseModel] | None:
    """The model that describes what is at a path, if one does."""
    here: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, str) and here:
            info = _field(here, part)
            here = _inner(info) if info else None
    return here


def takes_text(model: type[BaseModel], path: FieldPath) -> bool:
    """Whether what is at a path is a text and nothing else; an item of a list and a value of a map are meant, too."""
    for end in range(len(path), 0, -1):
        here = model_at(model, path[: end - 1])
        info = _field(here, path[end - 1]) if here else None
        if info:
            return _is_text(info.annotation, len(path) - end)
    return False


def _field(model: type[BaseModel], name: str | int) -> FieldInfo | None:
    return next((info for key, info in model.model_fields.items() if name == (info.alias or key)), None)


def _inner(info: FieldInfo) -> type[BaseModel] | None:
    waiting: list[Any] = [info.annotation]
    while waiting:
        annotation = waiting.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        waiting.extend(get_args(annotation))
    return None


def _is_text(annotation: Any, depth: int) -> bool:
    """`depth`: in how many lists or maps it lies."""
    args = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Annotated:
            return _is_text(args[0], depth)
        case origin if origin in (Union, UnionType):
            return all(_is_text(choice, depth) for choice in args if choice is not NoneType)
        case None:
            return annotation is str and not depth
        case _:
            inner = [arg for arg in args if arg is not Ellipsis]
            return depth > 0 and _is_text(inner[-1], depth - 1)
