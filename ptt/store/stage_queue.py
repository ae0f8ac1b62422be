"""What the two queues of the sign role have in common: leases on one stage of messages. Synchronous, for prefork."""

import secrets
from collections.abc import Sequence
from typing import ClassVar, cast

from redis.exceptions import RedisError

from ptt.core.envelope import QueueId
from ptt.core.errors import Unavailable
from ptt.store import keys
from ptt.store.connection import SOCKET_TIMEOUT_S, RedisAddress, connect
from ptt.store.entries import SignEntry, parse_claim
from ptt.store.restart import RestartGuard
from ptt.store.runner import Runner
from ptt.store.scripts import SCRIPTS, Call, translate

BATCH = 50
BATCH_BYTES = 8_388_608
"""Most octets in one claim: a worker's memory and its lease must both suffice for it."""
MAX_CLAIMS = 3
"""A message that three workers died on is parked, so that it stops killing workers."""


class StageQueue:
    """Messages at one stage, which workers lease; what is due and what becomes of it is up to each queue."""

    stage: ClassVar[keys.Stage]
    field_prefix: ClassVar[str]
    """What its fields begin with in `park_unsigned.lua`."""
    parked_event: ClassVar[str]
    """What the history says of a message that is parked here."""

    def __init__(self, address: RedisAddress, lease_s: float) -> None:
        """Make a client; it connects when it is used."""
        self._runner = Runner(connect(address))
        self._broker_db = address.broker_db
        self._lease_ms = int(lease_s * 1000)
        self._guard = RestartGuard()
        self._token = secrets.token_hex(8)
        self._is_unsure = False
        """Whether an answer was lost: this worker may own what it does not know of."""

    def put_back(self, queue_id: QueueId, delay_s: float, reason: str) -> None:
        """Let a claimed message wait that cannot be worked on now.

        Raises:
            Unavailable: Redis is away; so do all methods here.
        """
        names = keys.Fields(self.stage)
        fields = (names.owner, names.claims, names.newest)
        places = (keys.state(queue_id, self.stage), keys.queue(self.stage))
        arguments = (queue_id, self._token, int(delay_s * 1000), reason, *fields)
        self._run(Call(SCRIPTS["put_back"], places, arguments))

    def park(self, queue_id: QueueId, reason: str) -> bool:
        """Park a claimed message that must never be worked on here; tell whether it still was ours."""
        places = (keys.state(queue_id, self.stage), keys.queue(self.stage), keys.PARKED, keys.EVENTS)
        what = (self.field_prefix, self.stage, self.parked_event)
        arguments = (queue_id, self._token, reason, keys.MAX_EVENTS, *what)
        return self._run(Call(SCRIPTS["park_unsigned"], places, arguments)) == [1]

    def _claim(self, script: str, *limits: int) -> tuple[Sequence[Sequence[bytes]], list[QueueId]]:
        """Lease what is due; give the rows of the script, and the queue-ids of what it parked."""
        try:
            result = self._ask_claim(script, *limits)
        except Unavailable:
            # If its answer was lost, what it leased is taken back by asking again: it must not pass for a death.
            result = self._ask_claim(script, *limits)
        claimed, parked = parse_claim(result)
        return claimed, [QueueId(name.decode()) for name in parked]

    def _ask_claim(self, script: str, *limits: int) -> object:
        restarted_ms = self._guard.ask(self._runner.client)
        common = (self._token, BATCH, BATCH_BYTES, self._lease_ms, restarted_ms, MAX_CLAIMS, keys.MAX_EVENTS)
        ours = (self._guard.give_up_ms(SOCKET_TIMEOUT_S), int(self._is_unsure))
        places = (keys.queue(self.stage), keys.PARKED, keys.EVENTS)
        (result,) = self._run(Call(SCRIPTS[script], places, (*common, *ours, *limits)))
        self._is_unsure = False
        return result

    def _run(self, *calls: Call) -> list[object]:
        try:
            return self._runner.run(calls)
        except Unavailable:
            self._is_unsure = True
            raise

    def _read_content(self, entry: SignEntry) -> bytes:
        """Give the whole content of a message."""
        if not entry.chunks:
            return entry.content
        try:
            chunks = cast("list[bytes]", self._runner.client.lrange(keys.content(entry.queue_id), 0, -1))
        except (RedisError, OSError) as error:
            raise translate(error) from error
        return b"".join(chunks)
