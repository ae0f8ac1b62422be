"""Which checks belong to which role, for those who start or check all of them."""

from collections.abc import Mapping
from types import MappingProxyType

from ptt.workers import ingress_files, relay, sign
from ptt.workers.readiness import Checks

CHECKS: Mapping[str, tuple[Checks, ...]] = MappingProxyType(
    {
        "ingress": (ingress_files.list_checks,),
        "sign": (sign.list_checks,),
        "relay": (relay.list_checks,),
        "up": (ingress_files.list_checks, sign.list_checks, relay.list_checks),
    }
)
