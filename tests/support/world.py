"""What reconcilers work with, without that for which a pass has no use."""

from dataclasses import fields
from typing import Any

from appservice.reconcile.world import World


def world_with(**there: Any) -> World:
    return World(**dict.fromkeys((field.name for field in fields(World)), None) | there)  # type: ignore[arg-type]
