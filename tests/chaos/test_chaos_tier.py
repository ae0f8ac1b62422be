"""Every experiment of `make chaos` at its small figures: whole processes, one kind of fault, two ledgers.

``PTT_CHAOS_SEED`` repeats what `make chaos` printed.
"""

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.chaos.cases import CASES
from tests.chaos.rig import Case, run_case
from tests.chaos.run import format_result
from tests.chaos.site import Workshop

SEED = int(os.environ.get("PTT_CHAOS_SEED", "1"))
PATIENCE = 5.0
"""Other tests run at the same time: how long a thing takes is for `make chaos` to say, here it must only come."""


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """Give what all experiments share."""
    with Workshop.open() as opened:
        yield opened


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_promise_is_kept_under(case: Case, workshop: Workshop) -> None:
    """Nothing accepted is lost, nothing refused is delivered, each double is listed, and it recovers by itself."""
    result = asyncio.run(run_case(case, workshop, SEED, is_full=False, patience=PATIENCE))
    assert result.holds, format_result(result)
