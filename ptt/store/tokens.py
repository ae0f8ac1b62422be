"""Access tokens that an OAuth server has signed, checked with its public keys from a file.

Implements `ptt.core.ports.Tokens`. RFC 7519 (JWT), RFC 7517 (keys), RFC 8725 (best practice),
RFC 9068 (JWT as access tokens). No network: whoever runs the OAuth server, or a timer, writes the file.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jwt

from ptt import maillog
from ptt.core.errors import ConfigError, MalformedInput

LEEWAY_S = 30
"""How far the clocks of the OAuth server and ours may be apart."""
MAX_KEYS_BYTES = 1_048_576  # octets; a mistaken path must not fill the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token must say."""

    keys_file: Path
    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    login_claim: str
    """The claim that holds the login."""
    scope: str = ""
    """What the token must be good for; empty: not asked."""


class JwtTokens:
    """Checks tokens; reads the file of keys again when it has changed."""

    def __init__(self, rules: TokenRules) -> None:
        """Read the keys.

        Raises:
            ConfigError: the file cannot be read, or has no key that can be used.
        """
        self._rules = rules
        self._seen = _look(rules.keys_file)
        try:
            self._keys = _read_keys(rules)
        except MalformedInput as error:
            raise ConfigError(f"{rules.keys_file}: oauth.keys_file: {error}") from error

    @property
    def scope(self) -> str:
        """Give the scope that a token needs."""
        return self._rules.scope

    def check(self, token: str) -> str:
        """Check signature, issuer, audience, time and scope.

        Returns:
            The login that the token is for.

        Raises:
            MalformedInput: the token is no good; the text is for the log.
        """
        self._refresh()
        rules = self._rules
        try:
            claims = jwt.decode(
                token,
                self._find_key(token),
                algorithms=list(rules.algorithms),
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise MalformedInput(f"token: {error}") from error
        if rules.scope and rules.scope not in str(claims.get("scope", "")).split():
            raise MalformedInput(f"token: not for scope {rules.scope!r}")
        # The threat: an OAuth server lets its users write any address as theirs until they have proved it.
        if rules.login_claim == "email" and claims.get("email_verified") is False:
            raise MalformedInput("token: the address is not verified")
        login = claims.get(rules.login_claim)
        if not isinstance(login, str) or not login:
            raise MalformedInput(f"token: no claim {rules.login_claim!r}")
        return login

    def _find_key(self, token: str) -> jwt.PyJWK:
        header = jwt.get_unverified_header(token)
        wanted = (header.get("kid"), header.get("alg"))
        if wanted in self._keys:
            return self._keys[wanted]
        # RFC 7517 section 4.5: names of keys are optional, where there is but one to choose.
        possible = [key for (_, algorithm), key in self._keys.items() if algorithm == wanted[1]]
        if wanted[0] is None and len(possible) == 1:
            return possible[0]
        raise MalformedInput(f"token: no key {wanted[0]!r} for {wanted[1]!r}")

    def _refresh(self) -> None:
        if (seen := _look(self._rules.keys_file)) == self._seen:
            return
        self._seen = seen
        try:
            self._keys = _read_keys(self._rules)
        except MalformedInput as error:
            maillog.emit("tokens.refused", maillog.ERROR, path=self._rules.keys_file, reason=str(error))
        else:
            maillog.emit("tokens.loaded", count=len(self._keys))


def _look(path: Path) -> tuple[int, int]:
    """Give what changes with the file."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


def _read_keys(rules: TokenRules) -> dict[tuple[object, object], jwt.PyJWK]:
    """Read a JWK set (RFC 7517 section 5).

    Returns:
        Each key by its name and an algorithm that it may be used with.

    Raises:
        MalformedInput: it is none, or has no key for one of the algorithms.
    """
    try:
        with rules.keys_file.open("rb") as file:
            listed = json.loads(file.read(MAX_KEYS_BYTES))["keys"]
        wanted = [(key, algorithm) for key in listed for algorithm in rules.algorithms if _may_use(key, algorithm)]
    except OSError as error:
        raise MalformedInput(str(error.strerror)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedInput(f"no JWK set: {error}") from error
    found: dict[tuple[object, object], jwt.PyJWK] = {}
    for key, algorithm in wanted:
        # RFC 7517 section 5: a key that is not understood is passed over.
        with suppress(jwt.PyJWTError, ValueError, TypeError):
            found[key.get("kid"), algorithm] = jwt.PyJWK(key, algorithm=algorithm)
    if not found:
        raise MalformedInput(f"no key for {', '.join(rules.algorithms)}")
    return found


def _may_use(key: dict[str, object], algorithm: str) -> bool:
    # A key for encryption signs nothing. The threat (RFC 8725 section 2.1): with a shared secret ("oct"), whoever can
    # check tokens could make them, and a public key could be taken for one.
    is_signing = key.get("use", "sig") == "sig" and key.get("kty") in {"RSA", "EC", "OKP"}
    return is_signing and key.get("alg", algorithm) == algorithm
