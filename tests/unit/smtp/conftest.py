"""A courier for one scripted server."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from ptt.smtp.courier import CourierOptions, SmtpCourier
from tests.letters import make_options

MakeCourier = Callable[..., SmtpCourier]


@pytest.fixture
async def make_courier() -> AsyncIterator[MakeCourier]:
    """Make couriers that are closed at the end: ``make_courier(port, **changes of CourierOptions)``."""
    couriers: list[SmtpCourier] = []

    def make(port: int, **changes: object) -> SmtpCourier:
        options: CourierOptions = replace(make_options(port), **changes)  # type: ignore[arg-type]
        couriers.append(SmtpCourier(options))
        return couriers[-1]

    yield make
    for courier in couriers:
        await courier.close()
