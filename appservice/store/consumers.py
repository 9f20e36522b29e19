"""Consumer tokens that were issued, and what consumers used."""

from dataclasses import dataclass

from appservice.store.database import Connection, Reader


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
    """Sums over a consumer's calls."""

    model: str
    calls: int
    failed: int
    tokens_in: int
    tokens_out: int
    median_ms: int


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


async def summary(store: Reader, consumer: str, *, since: float = 0.0) -> list[Used]:
    """Sums by model of calls since that time."""
    rows = await store.read(
        "SELECT model, status, tokens_in, tokens_out, took_ms FROM usage WHERE consumer = ? AND at >= ?"
        " ORDER BY model, took_ms",
        (consumer, since),
    )
    models = sorted({row["model"] for row in rows})
    sums = []
    for model in models:
        calls = [row for row in rows if row["model"] == model]
        sums.append(
            Used(
                model=model,
                calls=len(calls),
                failed=sum(row["status"] != 200 for row in calls),
                tokens_in=sum(row["tokens_in"] for row in calls),
                tokens_out=sum(row["tokens_out"] for row in calls),
                median_ms=calls[len(calls) // 2]["took_ms"],
            )
        )
    return sums


async def calls(store: Reader, consumer: str, limit: int = 5) -> list[Call]:
    """Newest first."""
    rows = await store.read("SELECT * FROM usage WHERE consumer = ? ORDER BY at DESC LIMIT ?", (consumer, limit))
    return [Call(**dict(row)) for row in rows]
