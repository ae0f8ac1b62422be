"""The peer: Postfix with OpenDKIM as milter and Dovecot for AUTH, an instance of our own in one temporary folder.

Default Postfix but for what has to differ: own folders, no chroot, its own log writer instead of syslog. On top come
the settings that a careful administrator of such a service would choose: kept and encrypted connections to the
destination, and a check that the user may send as MAIL FROM. Nothing of the system's own Postfix is read or touched.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accounting import ProcessGroup
from side import Place, take_ports

APT_COMMAND = "apt-get install -y --no-install-recommends postfix opendkim opendkim-tools dovecot-core openssl"
SELECTOR = "peer"
START_TIMEOUT_S = 20.0
QUEUES = ("incoming", "active", "deferred", "maildrop")

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/state
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
myhostname = postfix.example
mydestination =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {folder}/dovecot/auth-client
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_sender_restrictions = reject_sender_login_mismatch
smtpd_sender_login_maps = texthash:{folder}/etc/owners
smtpd_milters = unix:{folder}/opendkim/socket
milter_default_action = tempfail
relayhost = [127.0.0.1]:{sink_port}
smtp_tls_security_level = encrypt
smtp_tls_connection_reuse = yes
smtp_tls_loglevel = 0
"""

MASTER_CF = """\
127.0.0.1:{starttls_port} inet n - n - - smtpd
127.0.0.1:{implicit_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
local     unix  - n n - - local
virtual   unix  - n n - - virtual
lmtp      unix  - - n - - lmtp
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
tlsproxy  unix  - - n - 0 tlsproxy
postlog   unix-dgram n - n - 1 postlogd
"""

OPENDKIM_CONF = """\
Background no
Syslog no
Mode s
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
Domain {domain}
Selector {selector}
KeyFile {folder}/opendkim/{selector}.pem
Socket local:{folder}/opendkim/socket
UMask 000
UserID opendkim
RequireSafeKeys no
OversignHeaders From
"""

DOVECOT_CONF = """\
base_dir = {folder}/dovecot/run
state_dir = {folder}/dovecot/state
log_path = {folder}/dovecot.log
protocols =
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
auth_username_format = %u
passdb {{
  driver = passwd-file
  args = scheme={scheme} username_format=%u {folder}/dovecot/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {folder}/dovecot/auth-client {{
    mode = 0660
    user = postfix
    group = postfix
  }}
}}
"""


def find_missing() -> list[str]:
    """Give the programs of the peer that are not installed."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    programs = ("postfix", "postconf", "opendkim", "dovecot", "doveadm", "openssl")
    return [program for program in programs if not shutil.which(program, path=path)]


def install() -> None:
    """Install the peer with apt-get; its services are kept from starting."""
    # Debian starts a service when its package is installed, unless this file says that starting is not allowed.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(APT_COMMAND.split(), env=environment, check=True)
    finally:
        if ours:
            policy.unlink()


@dataclass(slots=True)
class PostfixSide:
    """Postfix + OpenDKIM + Dovecot SASL."""

    place: Place
    group: ProcessGroup
    scheme: str = "PLAIN"
    extra_main_cf: tuple[str, ...] = ()
    starttls_port: int = 0
    implicit_port: int = 0
    name: str = "postfix"

    def start(self) -> None:
        """Write all files, start the three servers, wait for their sockets."""
        self.starttls_port, self.implicit_port = take_ports(2)
        self._make_folders()
        self._write_dovecot()
        self._write_opendkim()
        self._write_postfix()
        folder, log = self.place.folder, self.place.folder / "servers.log"
        self.group.start(["/usr/sbin/dovecot", "-F", "-c", folder / "dovecot/dovecot.conf"], log)
        self.group.start(["/usr/sbin/opendkim", "-f", "-x", folder / "opendkim/opendkim.conf"], log)
        self._wait(lambda: (folder / "dovecot/auth-client").exists() and (folder / "opendkim/socket").exists())
        subprocess.run(["/usr/sbin/postfix", "-c", folder / "etc", "check"], check=True, capture_output=True)
        master = Path(self._postconf("daemon_directory")) / "master"
        self.group.start([master, "-s", "-c", folder / "etc"], log, env=_clean_environment(folder / "etc"))
        self._wait(lambda: _listens(self.starttls_port) and _listens(self.implicit_port))

    def _make_folders(self) -> None:
        for name in ("etc", "spool", "state", "dovecot/run", "dovecot/state", "opendkim"):
            (self.place.folder / name).mkdir(parents=True)
        shutil.chown(self.place.folder / "state", "postfix")
        shutil.chown(self.place.folder / "opendkim", "opendkim")

    def _write_dovecot(self) -> None:
        folder, password = self.place.folder / "dovecot", self.place.password
        if self.scheme != "PLAIN":
            argv = ["doveadm", "-c", "/dev/null", "pw", "-s", self.scheme, "-p", password]
            password = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
            password = password.removeprefix(f"{{{self.scheme}}}")
        (folder / "users").write_text(f"{self.place.login}:{password}\n")
        shutil.chown(folder / "users", "dovecot")
        (folder / "users").chmod(0o600)
        text = DOVECOT_CONF.format(folder=self.place.folder, scheme=self.scheme)
        (folder / "dovecot.conf").write_text(text)

    def _write_opendkim(self) -> None:
        key = self.place.folder / f"opendkim/{SELECTOR}.pem"
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", key, "2048"], check=True, capture_output=True)
        shutil.chown(key, "opendkim")
        key.chmod(0o600)
        text = OPENDKIM_CONF.format(folder=self.place.folder, domain=self.place.sender_domain, selector=SELECTOR)
        (self.place.folder / "opendkim/opendkim.conf").write_text(text)

    def _write_postfix(self) -> None:
        place, etc = self.place, self.place.folder / "etc"
        main = MAIN_CF.format(
            folder=place.folder, certificate=place.certificate, key=place.key, sink_port=place.sink_port
        )
        (etc / "main.cf").write_text(main + "".join(line + "\n" for line in self.extra_main_cf))
        ports = {"starttls_port": self.starttls_port, "implicit_port": self.implicit_port}
        (etc / "master.cf").write_text(MASTER_CF.format(**ports))
        (etc / "owners").write_text(f"{place.sender} {place.login}\n")

    def _wait(self, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            self.group.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not come up; see {self.place.folder}")
            time.sleep(0.05)

    def _postconf(self, name: str) -> str:
        argv: list[str | Path] = ["/usr/sbin/postconf", "-c", self.place.folder / "etc", "-hx", name]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def stop(self) -> None:
        """End master, milter and Dovecot with all their children."""
        self.group.end()

    def port(self, tls: str) -> int:
        """Give the submission port."""
        return self.implicit_port if tls == "implicit" else self.starttls_port

    def get_process_names(self) -> dict[int, str]:
        """Name none: the programs have speaking names."""
        return {}

    def is_drained(self) -> bool:
        """Look for queue files."""
        spool = self.place.folder / "spool"
        return not any(path.is_file() for queue in QUEUES for path in (spool / queue).rglob("*"))

    def get_public_key(self, name: str) -> bytes | None:
        """Derive the key record from the private key that OpenDKIM signs with."""
        if name.rstrip(".") != f"{SELECTOR}._domainkey.{self.place.sender_domain}":
            return None
        key = self.place.folder / f"opendkim/{SELECTOR}.pem"
        argv: list[str | Path] = ["openssl", "rsa", "-in", key, "-pubout"]
        lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        return f"v=DKIM1; k=rsa; p={''.join(lines[1:-1])}".encode()

    def describe(self) -> dict[str, str]:
        """Ask the programs for their versions; Postfix has no switch for fsync: it always does."""
        opendkim = subprocess.run(["/usr/sbin/opendkim", "-V"], capture_output=True, text=True, check=False)
        dovecot = subprocess.run(["/usr/sbin/dovecot", "--version"], capture_output=True, text=True, check=True)
        return {
            "postfix": self._postconf("mail_version"),
            "opendkim": opendkim.stdout.splitlines()[0].removeprefix("opendkim: "),
            "dovecot": dovecot.stdout.split()[0],
            "durability": "fsync of each queue file before the 250 (Postfix's default; it has no switch)",
            "password scheme": f"{self.scheme} (Dovecot)",
            "TLS out": f"{self._postconf('smtp_tls_security_level')}, "
            f"smtp_tls_connection_reuse={self._postconf('smtp_tls_connection_reuse')}",
        }


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _clean_environment(etc: Path) -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MAIL_CONFIG": str(etc), "LANG": "C"}
