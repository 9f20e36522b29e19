"""Near words: what somebody probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST_WORD = 60


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like this one; '' when none is near. Case does not count."""
    folded = {candidate.casefold(): candidate for candidate in known}
    found = get_close_matches(word[:_LONGEST_WORD].casefold(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Ask for the nearest known word, or list all of them after `otherwise`."""
    known = tuple(known)
    if found := nearest(word, known):
        return f"Did you mean `{found}`?"
    return f"{otherwise} {', '.join(known)}." if otherwise else ""
