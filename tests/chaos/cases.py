"""The table of experiments."""

from tests.chaos import fault_points, faults
from tests.chaos.rig import Case, Load

_SMALL = Load(messages=300, rate=60, faults=3)
_FULL = Load(messages=10_000, rate=200, faults=50, connections=50, life_s=4)
_SLOW_SINK = ("--dot-delay", "0.05")

CASES = (
    Case(name="B1", title="kill -9 of ingress", inject=faults.kill_ingress, small=_SMALL, full=_FULL),
    Case(name="B2", title="kill -9 of sign: main, child, all", inject=faults.kill_sign, small=_SMALL, full=_FULL),
    Case(
        name="B3",
        title="kill -9 of a relay",
        inject=faults.kill_relay,
        small=_SMALL,
        full=_FULL,
        may_double=True,
        sink_options=_SLOW_SINK,
    ),
    Case(
        name="B5",
        title="kill -9 at every named step",
        inject=fault_points.kill_at_points,
        prepare=fault_points.plan_kills,
        choose=fault_points.choose_mail,
        small=Load(messages=100, rate=20, faults=1, life_s=0.3),
        full=Load(messages=1_000, rate=40, faults=5, life_s=2),
        may_double=True,
        sink_options=(*_SLOW_SINK, "--certificate", "{folder}/mx.crt", "--key", "{folder}/mx.key"),
        settings={"PTT_RELAY__MESSAGES_PER_CONNECTION": "10"},  # or all connections are there from the start
        relays=3,
    ),
    Case(
        name="B6",
        title="kill -9 of everything, Redis too",
        inject=faults.kill_tree,
        small=Load(messages=240, rate=60, faults=2),
        full=Load(messages=10_000, rate=200, faults=10, connections=50),
        may_double=True,
        sink_options=_SLOW_SINK,
    ),
    Case(
        name="B7",
        title="kill -9 of Redis, away for 0.2 to 6 s",
        inject=faults.kill_redis,
        small=Load(messages=300, rate=40, faults=3, outage_s=6),
        full=Load(messages=10_000, rate=200, faults=50, outage_s=6, connections=50),
        may_double=True,
        layout="apart",
        sink_options=_SLOW_SINK,
    ),
    Case(
        name="B38",
        title="FLUSHDB of the wake-ups",
        inject=faults.flush_broker,
        small=Load(messages=300, rate=60, faults=20),
        full=Load(messages=10_000, rate=200, faults=50, connections=50),
        max_wait_s=30,
    ),
    Case(
        name="B39",
        title="the reply to the dot takes longer than the lease",
        inject=faults.leave_alone,
        small=Load(messages=50, rate=25, faults=1),
        full=Load(messages=500, rate=50, faults=1),
        sink_options=("--dot-delay", "5"),
        settings={"PTT_QUEUE__LEASE_S": "2"},
        relays=2,
    ),
    Case(
        name="B39-freeze",
        title="SIGSTOP of one of two relays, longer than the lease",
        inject=faults.freeze_relay,
        small=Load(messages=300, rate=40, faults=2),
        full=Load(messages=10_000, rate=100, faults=20, connections=50),
        may_double=True,
        sink_options=("--dot-delay", "1"),  # so that there is much in flight to freeze
        settings={"PTT_QUEUE__LEASE_S": "2"},
        relays=2,
    ),
    Case(
        name="B39-alone",
        title="SIGSTOP of the only relay, longer than the lease",
        inject=faults.freeze_relay,
        small=Load(messages=300, rate=40, faults=2),
        full=Load(messages=10_000, rate=100, faults=20, connections=50),
        may_double=True,
        sink_options=("--dot-delay", "1"),  # so that there is much in flight to freeze
        settings={"PTT_QUEUE__LEASE_S": "2"},
    ),
    Case(
        name="B40",
        title="every destination woken again and again, three relays",
        inject=faults.dispatch_twice,
        small=Load(messages=300, rate=60, faults=30),
        full=Load(messages=5_000, rate=100, faults=1_000, connections=50),
        sink_options=_SLOW_SINK,
        relays=3,
    ),
    *(
        Case(
            name=f"B16-{link}",
            title=f"{title}: blackhole, replies lost, RST",
            inject=faults.partition_of(link),
            small=Load(messages=300, rate=20, faults=3, outage_s=6),
            full=Load(messages=3_000, rate=30, faults=30, outage_s=10),
            may_double=link in {"relay", "mx"},
            may_refuse_late=link == "ingress",
            layout="apart",
            settings={"PTT_RELAY__TIMEOUT_SCALE": "0.01"} if link == "mx" else {},
        )
        for link, title in (
            ("ingress", "ingress and Redis apart"),
            ("sign", "sign and Redis apart"),
            ("relay", "relay and Redis apart"),
            ("mx", "relay and MX apart"),
        )
    ),
    Case(
        name="B24",
        title="delivery cut after its n-th octet: FIN, RST, half-close",
        inject=faults.cuts_of("mx"),
        small=Load(messages=100, rate=20, faults=90, size_bytes=200),
        full=Load(messages=1_000, rate=20, faults=0, size_bytes=200),
        may_double=True,
        layout="apart",
        settings={"PTT_RELAY__TIMEOUT_SCALE": "0.01", "PTT_RELAY__MESSAGES_PER_CONNECTION": "1"},
    ),
    Case(
        name="B25",
        title="submission cut after its n-th octet: FIN, RST",
        inject=faults.cut_submission,
        small=Load(messages=40, rate=20, faults=120, connections=2, size_bytes=200),
        full=Load(messages=200, rate=20, faults=0, connections=2, size_bytes=200),
    ),
    Case(
        name="B25-tls",
        title="submission's TLS cut after its n-th octet: FIN, RST, half-close",
        inject=faults.cuts_of("client"),
        small=Load(messages=40, rate=20, faults=60, connections=4, size_bytes=200),
        full=Load(messages=200, rate=20, faults=1_500, connections=8, size_bytes=200),
        layout="apart",
    ),
    Case(
        name="B43",
        title="SIGTERM under load",
        inject=faults.stop_gracefully,
        small=Load(messages=300, rate=60, faults=2),
        full=Load(messages=10_000, rate=200, faults=50, connections=50),
        sink_options=_SLOW_SINK,
    ),
)
