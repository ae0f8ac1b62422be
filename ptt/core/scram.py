"""SCRAM-SHA-256 as a server: verifiers, the messages of the exchange, and the check of the proof.

RFC 5802 (the mechanism), RFC 7677 (SHA-256), RFC 4013 (SASLprep). Knows no TLS: channel bindings come in as octets.
"""

import base64
import binascii
import hashlib
import hmac
import re
import stringprep
import unicodedata
from dataclasses import dataclass, field

from typing_extensions import override

from ptt.core.errors import MalformedInput

SCHEME = "SCRAM-SHA-256"
ITERATIONS = 600_000
"""Of PBKDF2, for who got hold of the repository: what OWASP holds for equal to the Argon2id beside it."""
MIN_ITERATIONS = 4096  # RFC 7677 section 4
MAX_ITERATIONS = 10_000_000  # the client pays for them; more would look like a server that hangs
SALT_BYTES = 16
NONCE_BYTES = 18
_KEY_BYTES = 32
_VERIFIER = re.compile(r"SCRAM-SHA-256\$([0-9]{1,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_NONCE = re.compile(rb"[\x21-\x2b\x2d-\x7e]{1,1024}")  # RFC 5802 section 7: printable without comma
_ESCAPE = re.compile(r"=(2C|3D)?")


@dataclass(frozen=True, slots=True)
class ScramVerifier:
    """What a server keeps instead of the password (RFC 5802 section 3)."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @override
    def __str__(self) -> str:
        """Write it as PostgreSQL does."""
        salt, stored_key, server_key = (
            base64.b64encode(octets).decode() for octets in (self.salt, self.stored_key, self.server_key)
        )
        return f"{SCHEME}${self.iterations}:{salt}${stored_key}:{server_key}"


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """The client's first message, in its parts."""

    gs2_header: bytes
    flag: str
    """``n``: the client knows no channel binding, ``y``: it thinks that we do not, ``p``: it uses ``binding``."""
    binding: str
    login: str
    nonce: bytes
    bare: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """An exchange whose first two messages are said."""

    client_first: ClientFirst
    verifier: ScramVerifier
    nonce: bytes
    """The client's and ours."""

    @property
    def server_first(self) -> bytes:
        """Give our first message."""
        salt = base64.b64encode(self.verifier.salt)
        return b"r=%b,s=%b,i=%d" % (self.nonce, salt, self.verifier.iterations)


def parse_verifier(text: str) -> ScramVerifier:
    """Read what `ScramVerifier` writes.

    Raises:
        MalformedInput: it is no verifier, or outside the limits.
    """
    if (found := _VERIFIER.fullmatch(text)) is None:
        raise MalformedInput("not SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")
    iterations = int(found[1])
    if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
        raise MalformedInput(f"{iterations} iterations are not within {MIN_ITERATIONS} to {MAX_ITERATIONS}")
    try:
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in found.groups()[1:])
    except binascii.Error as error:
        raise MalformedInput("salt or keys are not base64") from error
    if not salt or (len(stored_key), len(server_key)) != (_KEY_BYTES, _KEY_BYTES):
        raise MalformedInput("salt or keys have not the right length")
    return ScramVerifier(iterations, salt, stored_key, server_key)


def make_verifier(password: bytes, salt: bytes, iterations: int = ITERATIONS) -> ScramVerifier:
    """Derive the verifier of a password (RFC 5802 section 3).

    Raises:
        MalformedInput: no SCRAM client could send this password.
    """
    salted = hashlib.pbkdf2_hmac("sha256", prepare(password), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return ScramVerifier(iterations, salt, stored_key, hmac.digest(salted, b"Server Key", "sha256"))


def prepare(password: bytes) -> bytes:
    """Normalise a password as clients do (SASLprep, RFC 4013 section 2).

    Raises:
        MalformedInput: it is not UTF-8, or has a character that is not allowed.
    """
    try:
        text = password.decode()
    except UnicodeDecodeError as error:
        raise MalformedInput("password: not UTF-8") from error
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared or any(_is_prohibited(character) for character in prepared) or not _is_bidi_right(prepared):
        raise MalformedInput("password: has a character that SASLprep does not allow")
    return prepared.encode()


def parse_client_first(message: bytes) -> ClientFirst:
    """Read the client's first message (RFC 5802 section 7).

    Raises:
        MalformedInput: it is none, or wants to act for another user.
    """
    flag, authzid, *rest = [*message.split(b",", 2), b"", b""][:3]
    bare = rest[0]
    name, nonce = [*bare.split(b","), b"", b""][:2]
    binding = flag.removeprefix(b"p=") if flag.startswith(b"p=") else b""
    # RFC 5802 section 5.1: "m=" would come first, and whoever does not know what it asks for must refuse.
    if (flag not in {b"n", b"y"} and not binding) or not name.startswith(b"n=") or not nonce.startswith(b"r="):
        raise MalformedInput("not a first message of SCRAM")
    if not _NONCE.fullmatch(nonce[2:]):
        raise MalformedInput("the nonce is empty, too long or not printable")
    login = _unescape(name[2:])
    if authzid not in {b"", b"a=" + name[2:]}:
        raise MalformedInput("the client wants to act for another user")
    gs2_header = message[: len(message) - len(bare)]
    return ClientFirst(gs2_header, flag[:1].decode(), binding.decode("ascii", "replace"), login, nonce[2:], bare)


def check_proof(challenge: Challenge, client_final: bytes, binding: bytes) -> bytes | None:
    """Check the client's last message (RFC 5802 sections 3 and 5.1).

    Args:
        challenge: what was said before.
        client_final: the message.
        binding: the octets of the channel binding, empty without one.

    Returns:
        Our last message, which proves that we know the user too; None if the proof is wrong.

    Raises:
        MalformedInput: the message belongs to no such exchange, or to one on another connection.
    """
    without_proof, separator, proof_text = client_final.rpartition(b",p=")
    channel, nonce = [*without_proof.split(b","), b"", b""][:2]
    try:
        proof = base64.b64decode(proof_text, validate=True)
    except binascii.Error as error:
        raise MalformedInput("the proof is not base64") from error
    if not separator or nonce != b"r=" + challenge.nonce or len(proof) != _KEY_BYTES:
        raise MalformedInput("not the last message of this exchange")
    # The threat: somebody between client and us passes the exchange on from another TLS connection.
    if channel != b"c=" + base64.b64encode(challenge.client_first.gs2_header + binding):
        raise MalformedInput("the client is bound to another channel")
    said = b",".join((challenge.client_first.bare, challenge.server_first, without_proof))
    signature = hmac.digest(challenge.verifier.stored_key, said, "sha256")
    client_key = bytes(one ^ other for one, other in zip(proof, signature, strict=True))
    if not hmac.compare_digest(hashlib.sha256(client_key).digest(), challenge.verifier.stored_key):
        return None
    return b"v=" + base64.b64encode(hmac.digest(challenge.verifier.server_key, said, "sha256"))


def _unescape(name: bytes) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise MalformedInput("the user name is not UTF-8") from error
    # RFC 5802 section 5.1: a "=" that is not "=2C" or "=3D" must be refused.
    if not text or "" in _ESCAPE.findall(text):
        raise MalformedInput("the user name is empty or wrongly escaped")
    return text.replace("=2C", ",").replace("=3D", "=")


_PROHIBITED = (
    stringprep.in_table_a1,  # unassigned in Unicode 3.2: two programs could normalise it differently
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def _is_prohibited(character: str) -> bool:
    return any(is_in_table(character) for is_in_table in _PROHIBITED)


def _is_bidi_right(text: str) -> bool:
    # RFC 3454 section 6.
    if not any(stringprep.in_table_d1(character) for character in text):
        return True
    is_mixed = any(stringprep.in_table_d2(character) for character in text)
    return not is_mixed and stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
