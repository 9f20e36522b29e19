"""The part that all kinds share: apiVersion, kind, metadata."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from appservice.resources.kind import LongText, Name, ShortText, Spec, Text, fault
from appservice.resources.source import shown

# What a Kubernetes server adds to `kubectl get -o yaml`. Users paste such files; none of it is theirs to declare.
WRITTEN_BY_SERVER: Final = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
_MOST_LABELS = 64
_LABEL_PART = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_LABEL_PART}")
_LABEL_VALUE = re.compile(rf"({_LABEL_PART})?")


OURS: Final = ("opsroom.io/", "org.opsroom.")  # labels with a meaning, in documents and on sandboxes


def is_ours(key: str) -> bool:
    """Whether a label is Opsroom's own."""
    return key.startswith(OURS)


def _label_keys(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        if not _LABEL_KEY.fullmatch(key):
            raise fault(f"{shown(key)} cannot be a key here.", "Use letters, digits, -, _ and . such as app.org/team.")
    return labels


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for key, value in _label_keys(labels).items():
        if not _LABEL_VALUE.fullmatch(value):
            raise fault(
                f"The value of label {shown(key)} is not allowed.",
                "Use at most 63 letters, digits, -, _ and . or move it to annotations.",
            )
    return labels


def _of_others(labels: dict[str, str]) -> dict[str, str]:
    for key in filter(is_ours, labels):
        raise fault(f"The label {shown(key)} is set by Opsroom.", "Choose another name for yours.")
    return labels


Labels = Annotated[dict[str, Text], Field(max_length=_MOST_LABELS), AfterValidator(_labels)]
SandboxLabels = Annotated[Labels, AfterValidator(_of_others)]
Annotations = Annotated[dict[str, LongText], Field(max_length=_MOST_LABELS), AfterValidator(_label_keys)]


class Metadata(Spec):
    """Who a document is about. `namespace` is accepted because manifests for Kubernetes carry one; it means nothing."""

    name: Name
    namespace: ShortText = ""
    labels: Labels = Field(default_factory=dict)
    annotations: Annotations = Field(default_factory=dict)


class Envelope(BaseModel):
    """The outermost fields of a document. `status` is what somebody else observed: never read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    apiVersion: Text  # noqa: N815 - the words of the file
    kind: Text
    metadata: dict[str, Any]
    spec: dict[str, Any]
    status: Any = None
