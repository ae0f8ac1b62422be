"""B28: reloads under load, of certificates that are good, broken, half-written and gone."""

import shutil
import signal
import smtplib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import pytest
import trustme

from tests.servers.ingress import LOGIN, PASSWORD, SENDER, IngressProcess, IngressSite, make_site, running_ingress
from tests.servers.redis import RedisServer
from tests.servers.submission import Certificate
from tests.waiting import wait_until

RELOADS = 200
MESSAGE = f"From: {SENDER}\r\n\r\nHello\r\n"


@dataclass
class Load:
    """Clients that go on until they are stopped; ``faults`` must stay empty."""

    site: IngressSite
    port: int
    stopped: threading.Event = field(default_factory=threading.Event)
    faults: list[str] = field(default_factory=list)
    messages: int = 0
    handshakes: int = 0

    def keep_sending(self) -> None:
        """Send over one connection, all the time."""
        with self._connect() as client:
            client.login(LOGIN, PASSWORD)
            while not self.stopped.is_set():
                client.sendmail(SENDER, ["rita@destination.test"], MESSAGE)
                self.messages += 1

    def keep_connecting(self) -> None:
        """Make one handshake after the other."""
        while not self.stopped.is_set():
            with self._connect() as client:
                client.noop()
                self.handshakes += 1

    def guard(self, work: Callable[[], None]) -> None:
        """Take note of whatever a client does not expect."""
        try:
            work()
        except (OSError, smtplib.SMTPException) as error:
            self.faults.append(repr(error))

    def _connect(self) -> smtplib.SMTP_SSL:
        context = self.site.certificate.trust()
        return smtplib.SMTP_SSL("127.0.0.1", self.port, context=context, timeout=60)


@contextmanager
def loading(load: Load) -> Iterator[None]:
    """Run the clients in threads."""
    work = (load.keep_sending, load.keep_sending, load.keep_connecting)
    threads = [threading.Thread(target=load.guard, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        load.stopped.set()
        for thread in threads:
            thread.join()


def make_pairs(folder: Path, count: int) -> tuple[Path, list[Certificate]]:
    """Make certificates of one authority, so that clients trust whichever is served."""
    authority = trustme.CA()
    authority_file = folder / "both.pem"
    authority.cert_pem.write_to_path(str(authority_file))
    pairs = []
    for number in range(count):
        issued = authority.issue_cert("127.0.0.1")
        pair = Certificate(authority_file, folder / f"certificate{number}.pem", folder / f"key{number}.pem")
        issued.private_key_pem.write_to_path(str(pair.key_file))
        issued.cert_chain_pems[0].write_to_path(str(pair.certificate_file))
        pairs.append(pair)
    return authority_file, pairs


def spoil(site: IngressSite, number: int, pairs: list[Certificate]) -> bool:
    """Put files in place for one reload; give whether they are good."""
    certificate, key = site.certificate.certificate_file, site.certificate.key_file
    pair = pairs[number % len(pairs)]
    key.unlink(missing_ok=True)
    shutil.copy(pair.certificate_file, certificate)
    shutil.copy(pair.key_file, key)
    kind = ("good", "garbage", "half a certificate", "half a key", "another's key", "gone", "a folder")[number % 7]
    match kind:
        case "good":
            return True
        case "garbage":
            certificate.write_bytes(bytes(range(256)))
        case "half a certificate":
            certificate.write_bytes(certificate.read_bytes()[:300])
        case "half a key":
            key.write_bytes(key.read_bytes()[:100])
        case "another's key":
            shutil.copy(pairs[(number + 1) % len(pairs)].key_file, key)
        case "gone":
            key.unlink()
        case _:
            certificate.unlink()
            certificate.mkdir()
    return False


def count_reloads(ingress: IngressProcess) -> tuple[int, int]:
    """Count how many were taken, and how many refused."""
    return len(ingress.events("certificate.loaded")), len(ingress.events("certificate.refused"))


@pytest.mark.timeout(240)
def test_reloads_under_load_drop_no_session_and_keep_the_last_good_certificate(
    tmp_path: Path, valkey: RedisServer
) -> None:
    """Every message is answered, every handshake ends well, and each bad certificate is told in the log."""
    site = make_site(tmp_path, valkey.url)
    authority_file, pairs = make_pairs(tmp_path, 3)
    site.certificate = Certificate(authority_file, site.certificate.certificate_file, site.certificate.key_file)
    spoil(site, 0, pairs)
    expected = [0, 0]
    with running_ingress(site) as ingress:
        load = Load(site, ingress.port("implicit"))
        with loading(load):
            for number in islice(cycle(range(21)), RELOADS):
                is_good = spoil(site, number, pairs)
                expected[0 if is_good else 1] += 1
                ingress.send_signal(signal.SIGHUP)
                wait_until(lambda: count_reloads(ingress) == tuple(expected), f"reload {expected} is done")
                if site.certificate.certificate_file.is_dir():
                    site.certificate.certificate_file.rmdir()
        assert load.faults == []
        assert sum(expected) == RELOADS
        assert load.messages > 0
        assert load.handshakes > 0
        assert ingress.process.poll() is None
