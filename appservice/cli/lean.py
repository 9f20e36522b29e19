"""Import the control plane without what its libraries load only because it happens to be installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

OPTIONAL = (
    "rich",  # structlog colours terminals with it; 6 MB
    "structlog.twisted",  # Twisted is there because of Synapse; 2 MB
)


@contextmanager
def lean() -> Iterator[None]:
    """Within it these modules cannot be imported, which their importers are prepared for; afterwards they can."""
    hidden = [name for name in OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how Python spells it
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
