"""The sweep: about once a second, each worker wakes its role for all that is past due. It repairs everything.

It finds a retry time that came, a wake-up that the broker lost and the lease of a dead worker alike. Any number of
workers may sweep at once; there is no leader.
"""

import threading

from ptt.core.errors import PttError
from ptt.core.wakeup import RELAY_WAKEUP, SIGN_WAKEUP
from ptt.store import keys
from ptt.store.connection import RedisAddress, connect
from ptt.store.runner import Runner
from ptt.store.scripts import SCRIPTS, Call

SWEEP_EVERY_S = 1.0
LOOK_AGAIN_MS = 2_000
"""A destination that was woken is looked at again after this, unless its claim sets a better time."""
MAX_DESTINATIONS = 500
"""Most destinations in one sweep: the script must not hold up Redis."""


def sweep_call(broker_db: int) -> Call:
    """Give the script of one sweep of the relay role."""
    arguments = (broker_db, keys.WAKE_TTL_MS, RELAY_WAKEUP, LOOK_AGAIN_MS, MAX_DESTINATIONS)
    return Call(SCRIPTS["sweep"], (keys.DESTINATIONS,), arguments)


def sweep_sign_call(broker_db: int) -> Call:
    """Give the script of one sweep of the sign role."""
    return Call(SCRIPTS["sweep_sign"], (keys.SIGN, keys.REPORTS), (broker_db, keys.WAKE_TTL_MS, SIGN_WAKEUP))


class SweepThread:
    """Sweeps for the sign role, from a thread of its own because its work blocks."""

    def __init__(self, address: RedisAddress) -> None:
        """Prepare; `start` begins."""
        self._runner = Runner(connect(address))
        self._call = sweep_sign_call(address.broker_db)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)

    def start(self) -> None:
        """Begin to sweep."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sweeping."""
        self._stopping.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stopping.wait(SWEEP_EVERY_S):
            try:
                self._runner.run([self._call])
            except PttError:
                continue  # Redis is away: the workers say so, and the next sweep makes up for this one
