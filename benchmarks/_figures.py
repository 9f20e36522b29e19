"""Figures as text: percentiles, ratios, tables, what a process costs, and how busy the machine was."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the edge of some measured values."""

    n: int
    p50: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        if len(values) < 2:
            return cls(len(values), values[0], values[0])
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return cls(len(values), cuts[49], cuts[98])

    def over(self, base: "Spread") -> tuple[float, float]:
        """Ratios of p50 and of p99."""
        return self.p50 / base.p50, self.p99 / base.p99


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they must be; numbers to the right."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        first = row[0].ljust(widths[0])
        lines.append("  ".join([first, *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]))
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def verdict(value: float, target: float, unit: str = "") -> str:
    """A value beside its target."""
    return f"{value:.2f}{unit} (target {target:g}{unit}: {'met' if value <= target else 'MISSED'})"


def load() -> str:
    """A line to print before and after: figures of a busy machine say little."""
    one, five, _ = os.getloadavg()
    return f"load average {one:.2f} (1 min), {five:.2f} (5 min) on {os.cpu_count()} cores"


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used, with the threads and children it has waited for left out."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in MB: `rss` counts shared pages in full, `pss` its share of them."""

    rss: float
    pss: float

    @classmethod
    def of(cls, pid: int) -> "Memory":
        lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        kib = {parts[0]: int(parts[1]) for parts in lines}
        return cls(kib["Rss:"] / 1024, kib["Pss:"] / 1024)

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.rss + other.rss, self.pss + other.pss)
