"""Consumer tokens: short-lived ES256 JWTs. The gateway knows the public key only, so it cannot make any."""

import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm

from appservice.errors import Denied, Invalid
from appservice.gateway.protocol import Token
from appservice.gateway.xds import AUDIENCE, ISSUER

_ALGORITHM = "ES256"


class TokenKey:
    """The signing key of this installation."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._public = key.public_key()

    @classmethod
    def load(cls, path: Path) -> "TokenKey":
        """Read the key, or make it once. Two processes that make it at the same time end with the same one."""
        if not path.exists():
            _create(path)
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, OSError) as error:
            fix = "Delete it to have a new one made; running agents then need new tokens."
            raise Invalid("The key that signs agents' tokens cannot be read.", where=str(path), fix=fix) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Invalid("The key that signs agents' tokens is no P-256 key.", where=str(path), fix="Delete it.")
        return cls(key)

    def issue(self, consumer: str, *, now: int, ttl_s: int) -> Token:
        jti = secrets.token_urlsafe(12)
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": consumer, "jti": jti, "exp": now + ttl_s}
        text = jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers={"kid": self._kid()})
        return Token(consumer=consumer, jti=jti, expires_at=now + ttl_s, text=text)

    def read(self, text: str) -> Token:
        """The token that this text is, whether expired or not. Raises Denied when it is none of ours."""
        try:
            claims = jwt.decode(
                text.strip(),
                self._public,
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["sub", "jti", "exp"], "verify_exp": False},
            )
        except jwt.InvalidTokenError as error:
            raise Denied("This is not a token of this installation.", fix="Issue a new one.") from error
        return Token(consumer=claims["sub"], jti=claims["jti"], expires_at=int(claims["exp"]), text=text.strip())

    def jwks(self) -> dict[str, Any]:
        """The public key set that the gateway checks tokens with."""
        public = ECAlgorithm.to_jwk(self._public, as_dict=True)
        return {"keys": [{**public, "kid": self._kid(), "alg": _ALGORITHM, "use": "sig"}]}

    def _kid(self) -> str:
        public: dict[str, Any] = ECAlgorithm.to_jwk(self._public, as_dict=True)
        return str(public["x"])[:8]


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike rename it never replaces the key that another process made
        except FileExistsError:
            return
    finally:
        Path(temporary).unlink()
