"""Agents that came up, and how they ended. One that dies soon after it was ready, over and over, rests before it is
started again: ten seconds, then twice as long each time, as Kubernetes does it (CrashLoopBackOff)."""

from dataclasses import dataclass

FIRST_REST_S = 10.0
LONGEST_REST_S = 300.0
STEADY_S = 600.0  # up for so long, an agent has its earlier deaths behind it


@dataclass(slots=True)
class _Life:
    up_since: float | None = None
    deaths: int = 0
    died_at: float = 0.0


class Lives:
    """Of this run; times are seconds of one clock."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}

    def up(self, name: str, *, now: float) -> None:
        """It takes turns."""
        life = self._lives.setdefault(name, _Life())
        if life.up_since is None:
            life.up_since = now

    def ended(self, name: str) -> None:
        """We ended it, or made it anew: what was before does not matter any more."""
        self._lives.pop(name, None)

    def died(self, name: str, *, now: float) -> bool:
        """It was found dead; False when it had not come up since it was last."""
        life = self._lives.get(name)
        if life is None or life.up_since is None:
            return False
        life.deaths = 1 if now - life.up_since >= STEADY_S else life.deaths + 1
        life.up_since, life.died_at = None, now
        return True

    def deaths(self, name: str) -> int:
        """In a row, each soon after it had come up."""
        return self._lives[name].deaths if name in self._lives else 0

    def rest_s(self, name: str, *, now: float) -> float:
        """Until it should be started again; 0 for one that runs, or died only once."""
        life = self._lives.get(name)
        if life is None or life.up_since is not None or life.deaths < 2:
            return 0.0
        rest = min(FIRST_REST_S * 2.0 ** (life.deaths - 2), LONGEST_REST_S)
        return max(0.0, life.died_at + rest - now)
