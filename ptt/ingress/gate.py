"""One attempt to log in, from what a client claims to who it is; and why not, for the log alone.

Each check gives the login or refuses with a reply that says nothing of the reason.
"""

from dataclasses import dataclass, field
from typing import NoReturn

from ptt.core.errors import MalformedInput, Refused
from ptt.core.ports import Attempt, Tokens, Users
from ptt.core.reply import Reply
from ptt.core.scram import Challenge, ClientFirst, ScramVerifier, check_proof
from ptt.core.user import MAX_LOGIN
from ptt.ingress.channel import Channel
from ptt.ingress.guard import Guard

MAX_PASSWORD = 1024  # octets; hashing is meant to be dear, and its price must not be the client's choice
INVALID_CREDENTIALS = Reply(535, "5.7.8", "Authentication credentials invalid")


@dataclass(slots=True, kw_only=True)
class Gate:
    """Checks the claims of one attempt."""

    users: Users
    guard: Guard
    client_address: str
    tokens: Tokens | None = None
    channel: Channel = field(default_factory=Channel)
    offers_binding: bool = False
    """Whether the client was told that SCRAM can be bound to the channel."""
    login: str = ""
    """Who the client says it is, once that is known."""
    reason: str = ""
    """Why it was refused."""

    def name(self, login: bytes | str) -> str:
        """Take note of who the client says it is.

        Raises:
            Refused: nobody could be called so.
        """
        try:
            text = login.decode() if isinstance(login, bytes) else login
        except UnicodeDecodeError:
            self.refuse("the login is not UTF-8")
        if not text or len(text.encode()) > MAX_LOGIN:
            self.refuse("the login is empty or too long")
        self.login = text
        return text

    def refuse(self, reason: str, reply: Reply = INVALID_CREDENTIALS) -> NoReturn:
        """Refuse for a reason.

        Raises:
            Refused: always.
        """
        self.reason = reason
        raise Refused(reply)

    async def check_password(self, login: bytes, password: bytes) -> str:
        """Check login and password.

        Raises:
            Refused: they are wrong, or may not be checked.
            Unavailable: they cannot be checked.
        """
        name = self.name(login)
        if len(password) > MAX_PASSWORD:
            self.refuse("the password is too long")
        user = await self.users.authenticate(name, password, self._begin(name))
        if user is None:
            self.refuse("wrong password" if self.users.get_user(name) else "no such user, or disabled")
        return user.login

    def find_scram(self, client_first: ClientFirst) -> ScramVerifier:
        """Give what the user's proof is checked against.

        Raises:
            Refused: nobody could be called so.
            Unavailable: the users were never read.
        """
        name = self.name(client_first.login)
        return self.users.get_scram(name, self._begin(name).seed)

    async def check_scram(self, challenge: Challenge, client_final: bytes, binding: bytes) -> bytes:
        """Check the proof of a SCRAM client, and give ours.

        Raises:
            Refused: it is wrong, or may not be checked.
        """
        attempt = self._begin(self.login)
        await attempt.ask()
        try:
            proof = check_proof(challenge, client_final, binding)
        except MalformedInput as error:
            self.refuse(str(error))
        user = self.users.get_user(self.login)
        # A commit may have come in the meantime.
        if proof is None or user is None or user.scram != challenge.verifier:
            self.refuse("wrong password" if user and user.scram else "no such user, disabled, or without SCRAM")
        attempt.settle(is_good=True)
        return proof

    def check_certificate(self, authzid: str) -> str:
        """Check that the client's certificate belongs to a user, and to whom it says if it says so.

        Raises:
            Refused: it does not.
        """
        user = self.users.find_certified(self.channel.certificate_names)
        self.login = authzid or (user.login if user else "")
        if user is None:
            self.refuse("the certificate belongs to no user: " + " ".join(sorted(self.channel.certificate_names)))
        if authzid not in {"", user.login}:
            self.refuse("the certificate belongs to another user")
        return user.login

    def check_token(self, token: str, authzid: str) -> str:
        """Check that an access token is a user's, and of whom it says if it says so.

        Raises:
            Refused: it is not.
        """
        self.login = authzid
        if self.tokens is None:
            self.refuse("no tokens are taken here")
        try:
            login = self.tokens.check(token)
        except MalformedInput as error:
            self.refuse(str(error))
        if authzid not in {"", login}:
            self.refuse("the token belongs to another user")
        if self.users.get_user(self.name(login)) is None:
            self.refuse("no such user, or disabled")
        return login

    def _begin(self, login: str) -> Attempt:
        return self.guard.begin(login, self.client_address)
