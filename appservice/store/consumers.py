"""Consumer tokens that were issued, and what consumers used."""

from collections.abc import Sequence
from dataclasses import dataclass

from appservice.store.database import Connection, Reader, Row


async def issued(db: Connection, jti: str, consumer: str, expires_at: int) -> None:
    await db.execute(
        "INSERT INTO tokens (jti, consumer, expires_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (jti, consumer, expires_at),
    )


async def revoke(db: Connection, consumer: str, *, keep: str = "") -> list[str]:
    """Revoke a consumer's tokens but one; the ids that were not revoked before."""
    rows = await db.execute(
        "UPDATE tokens SET revoked = 1 WHERE consumer = ? AND jti <> ? AND revoked = 0 RETURNING jti", (consumer, keep)
    )
    return [row["jti"] for row in rows.fetchall()]


async def holders(store: Reader) -> list[str]:
    """Consumers with a token that is not revoked."""
    return [row["consumer"] for row in await store.read("SELECT DISTINCT consumer FROM tokens WHERE revoked = 0")]


async def revoked(store: Reader, *, now: int) -> frozenset[str]:
    rows = await store.read("SELECT jti FROM tokens WHERE revoked = 1 AND expires_at > ?", (now,))
    return frozenset(row["jti"] for row in rows)


async def is_revoked(store: Reader, jti: str) -> bool:
    row = await store.read_one("SELECT revoked FROM tokens WHERE jti = ?", (jti,))
    return row is None or bool(row["revoked"])


async def forget_tokens(db: Connection, *, now: int) -> None:
    await db.execute("DELETE FROM tokens WHERE expires_at < ?", (now - 60,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Sums over a consumer's calls; `median_ms` of those of the last weeks, None without any."""

    model: str
    calls: int
    failed: int
    tokens_in: int
    tokens_out: int
    median_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call through the gateway, as stored."""

    call_id: str
    at: float
    consumer: str
    model: str
    status: int
    tokens_in: int
    tokens_out: int
    took_ms: int
    detail: str


async def used(db: Connection, call: Call) -> None:
    await db.execute(
        "INSERT INTO usage (call_id, at, consumer, model, status, tokens_in, tokens_out, took_ms, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            call.call_id,
            call.at,
            call.consumer,
            call.model,
            call.status,
            call.tokens_in,
            call.tokens_out,
            call.took_ms,
            call.detail,
        ),
    )


async def sum_up(db: Connection, *, before: float) -> None:
    """Keep of earlier calls only what they come to."""
    await db.execute(
        "INSERT INTO usage_sums (consumer, model, calls, failed, tokens_in, tokens_out)"
        " SELECT consumer, model, count(*), sum(status <> 200), sum(tokens_in), sum(tokens_out) FROM usage"
        " WHERE at < ? GROUP BY consumer, model"
        " ON CONFLICT (consumer, model) DO UPDATE SET calls = calls + excluded.calls,"
        " failed = failed + excluded.failed, tokens_in = tokens_in + excluded.tokens_in,"
        " tokens_out = tokens_out + excluded.tokens_out",
        (before,),
    )
    await db.execute("DELETE FROM usage WHERE at < ?", (before,))


async def summary(store: Reader, consumer: str) -> list[Used]:
    """Sums by model of all calls."""
    rows = await store.read(
        "SELECT model, status, tokens_in, tokens_out, took_ms FROM usage WHERE consumer = ? ORDER BY model, took_ms",
        (consumer,),
    )
    older = {row["model"]: row for row in await store.read("SELECT * FROM usage_sums WHERE consumer = ?", (consumer,))}
    return [
        _sums(model, [row for row in rows if row["model"] == model], older.get(model))
        for model in sorted({row["model"] for row in rows} | older.keys())
    ]


def _sums(model: str, recent: Sequence[Row], older: Row | None) -> Used:
    return Used(
        model=model,
        calls=len(recent) + (older["calls"] if older else 0),
        failed=sum(row["status"] != 200 for row in recent) + (older["failed"] if older else 0),
        tokens_in=sum(row["tokens_in"] for row in recent) + (older["tokens_in"] if older else 0),
        tokens_out=sum(row["tokens_out"] for row in recent) + (older["tokens_out"] if older else 0),
        median_ms=recent[len(recent) // 2]["took_ms"] if recent else None,
    )


async def calls(store: Reader, consumer: str, limit: int = 5) -> list[Call]:
    """Newest first."""
    rows = await store.read("SELECT * FROM usage WHERE consumer = ? ORDER BY at DESC LIMIT ?", (consumer, limit))
    return [Call(**dict(row)) for row in rows]
