"""What one attempt at one message has come to so far: an outcome for each recipient as it becomes known."""

from collections.abc import Iterable

from ptt.core.address import Address
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Delivered, Outcome
from ptt.core.verdict import Failure


class Attempt:
    """A message and the outcomes of its recipients; the first outcome of a recipient stands."""

    def __init__(self, message: OutboundMessage) -> None:
        """Start with nothing known."""
        self.message = message
        self.is_dot_sent = False
        """Whether a final dot was sent: from then on no other host is tried in this attempt."""
        self.is_reached = False
        """Whether a host was ready for mail: from then on a failure says nothing of the other hosts of the domain."""
        self.is_choosy = False
        """Whether a host was passed over that would have done for a message that asks for less."""
        self.in_doubt: tuple[Address, ...] = ()
        """Whom the final dot that has no reply yet was sent for."""
        self.failures: list[Failure] = []
        """What happened at the hosts that could not be used."""
        self._outcomes: dict[Address, Outcome] = {}

    @property
    def remaining(self) -> list[Address]:
        """The recipients without an outcome, each once."""
        return [r for r in dict.fromkeys(self.message.recipients) if r not in self._outcomes]

    @property
    def delivered(self) -> list[Address]:
        """The recipients that were delivered to."""
        return [recipient for recipient, outcome in self._outcomes.items() if isinstance(outcome, Delivered)]

    def note_dot(self, recipients: Iterable[Address]) -> None:
        """Note that the final dot was sent for these; until `settle` nobody knows what became of it."""
        self.is_dot_sent = True
        self.in_doubt = tuple(recipients)

    def settle(self, recipients: Iterable[Address], outcome: Outcome) -> None:
        """Note the outcome of those that have none."""
        for recipient in recipients:
            self._outcomes.setdefault(recipient, outcome)

    def settle_rest(self, outcome: Outcome) -> None:
        """Note the outcome of all that have none."""
        self.settle(self.message.recipients, outcome)

    def is_settled(self, recipients: Iterable[Address]) -> bool:
        """Tell whether all of these have an outcome."""
        return all(recipient in self._outcomes for recipient in recipients)

    def list_outcomes(self) -> list[tuple[Address, Outcome]]:
        """Give one outcome for each recipient of the message, in their order."""
        return [(recipient, self._outcomes[recipient]) for recipient in self.message.recipients]
