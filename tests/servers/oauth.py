"""An OAuth server as far as its tokens go: a key, its JWK set as a file, and tokens about anybody."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ISSUER = "https://login.example.test"
AUDIENCE = "mail.example.test"


@dataclass
class OAuthServer:
    """Issues tokens signed with ES256."""

    keys_file: Path
    key_id: str = "one"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def publish(self, *others: dict[str, object]) -> None:
        """Write the JWK set, with other keys in front."""
        own = json.loads(ECAlgorithm.to_jwk(self.key.public_key())) | {"kid": self.key_id}
        # A new inode, as a careful writer makes it: two writes within one tick of the clock are told apart.
        draft = self.keys_file.with_suffix(".new")
        draft.write_text(json.dumps({"keys": [*others, own]}))
        draft.replace(self.keys_file)

    def issue(self, login: str, **claims: object) -> str:
        """Issue a token; None as a claim leaves it out."""
        standard = {"iss": ISSUER, "aud": AUDIENCE, "sub": login, "exp": int(time.time()) + 300}
        kept = {name: value for name, value in (standard | claims).items() if value is not None}
        return jwt.encode(kept, self.key, algorithm="ES256", headers={"kid": self.key_id})
