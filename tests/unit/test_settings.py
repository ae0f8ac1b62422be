"""Where settings come from, which wins, and what is said about wrong ones."""

import json
from pathlib import Path

import pytest

from ptt.core.errors import ConfigError
from ptt.settings import Settings, list_fields, load_settings, load_with_origins, redact, redact_url


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with an environment that holds nothing of ours."""
    import os  # noqa: PLC0415 - only to empty the environment

    for name in list(os.environ):
        if name.startswith("PTT_") or name in {"CREDENTIALS_DIRECTORY", "XDG_CONFIG_HOME"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def list_problems(config: Path | None = None, role: str | None = None) -> list[str]:
    """Load settings that are wrong, and give what is said about them."""
    with pytest.raises(ConfigError) as caught:
        load_settings(config, role=role)
    return list(caught.value.problems)


def name_log_level(level: str) -> str:
    """Write a ptt.toml that can be told from others."""
    return f'[log]\nlevel = "{level}"\n'


def test_load_without_file_gives_defaults() -> None:
    """No ptt.toml is fine: everything has a default."""
    assert load_settings() == Settings()


def test_load_file_first_place_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config, then $PTT_CONFIG, then ./ptt.toml, then $XDG_CONFIG_HOME."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "xdg"))
    write(folder / "xdg/ptt/ptt.toml", name_log_level("error"))
    assert load_settings().log.level == "error"
    write(folder / "ptt.toml", name_log_level("warning"))
    assert load_settings().log.level == "warning"
    monkeypatch.setenv("PTT_CONFIG", str(write(folder / "named.toml", name_log_level("info"))))
    assert load_settings().log.level == "info"
    assert load_settings(write(folder / "option.toml", name_log_level("debug"))).log.level == "debug"


def test_load_home_config_without_xdg_variable(folder: Path) -> None:
    """The XDG base directory defaults to ~/.config."""
    write(folder / "home/.config/ptt/ptt.toml", name_log_level("error"))
    assert load_settings().log.level == "error"


@pytest.mark.parametrize("variable", ["", "PTT_CONFIG"])
def test_load_named_file_missing_is_refused(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was asked for by name must be there."""
    if variable:
        monkeypatch.setenv(variable, "nowhere.toml")
    problems = list_problems(None if variable else Path("nowhere.toml"))
    assert problems == ["nowhere.toml: cannot be read: No such file or directory"]


def test_load_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    """It is no file, and one line says so."""
    assert list_problems(folder) == [f"{folder}: cannot be read: Is a directory"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[log]\nlevel = \n", "ptt.toml: line 2, column 9: Invalid value"),
        (b'[log]\nlevel = "info', "ptt.toml: line 2: Unterminated string"),
        (b"[log]\n# \xff\n", "ptt.toml: line 2: not UTF-8"),
        (b"x" * 1_048_577, "ptt.toml: is over 1048576 octets"),
    ],
)
def test_load_file_not_toml_is_refused_with_line(folder: Path, content: bytes, problem: str) -> None:
    """One line says where the file stops being TOML."""
    (folder / "ptt.toml").write_bytes(content)
    assert list_problems() == [problem]


def test_load_order_environment_then_secret_file_then_credential_then_toml(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands nearer to the process wins."""
    write(folder / "ptt.toml", '[redis]\nurl = "redis://toml.test"\n')
    assert load_settings().redis.url == "redis://toml.test"
    write(folder / "credentials/redis.url", "redis://credential.test\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder / "credentials"))
    assert load_settings().redis.url == "redis://credential.test"
    monkeypatch.setenv("PTT_REDIS__URL_FILE", str(write(folder / "secret", "redis://file.test\n")))
    assert load_settings().redis.url == "redis://file.test"
    monkeypatch.setenv("PTT_REDIS__URL", "redis://variable.test")
    assert load_settings().redis.url == "redis://variable.test"


def test_load_environment_converts_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, booleans, addresses, paths and JSON lists come as text."""
    listen = [{"address": "127.0.0.1", "port": 0, "tls": "implicit"}]
    for name, text in {
        "PTT_USERS__POLL_S": "0.5",
        "PTT_RELAY__ALLOW_PRIVATE_ADDRESSES": "true",
        "PTT_RELAY__RESOLVERS": '["127.0.0.1"]',
        "PTT_DNS_UPDATE__SERVER": "::1",
        "PTT_INGRESS__LISTEN": json.dumps(listen),
        "PTT_SIGNING__KEYS_DIR": "keys",
        "PTT_LOG": '{"level": "debug"}',
    }.items():
        monkeypatch.setenv(name, text)
    settings = load_settings()
    assert settings.users.poll_s == 0.5
    assert settings.relay.allow_private_addresses is True
    assert [str(address) for address in settings.relay.resolvers] == ["127.0.0.1"]
    assert str(settings.dns_update.server) == "::1"
    assert settings.ingress.listen[0].tls == "implicit"
    assert settings.signing.keys_dir == Path("keys")
    assert settings.log.level == "debug"


def test_load_credential_for_path_setting_is_the_file_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is a path stays a path: its content is read by who needs it."""
    path = write(folder / "credentials/ingress.seal_key_file", "secret")
    write(folder / "credentials/unrelated", "left alone")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    assert load_settings().ingress.seal_key_file == path


def test_load_relative_paths_start_at_the_folder_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration can be used from any working folder."""
    text = '[ingress]\nseal_key_file = "seal.key"\nkey_file = "/abs/key"\n[users]\nrepository = "users.git"\n'
    config = write(folder / "etc/ptt.toml", text)
    monkeypatch.chdir("/")
    settings = load_settings(config)
    assert settings.ingress.seal_key_file == folder / "etc/seal.key"
    assert settings.ingress.key_file == Path("/abs/key")
    assert settings.users.repository == str(folder / "etc/users.git")


@pytest.mark.parametrize("url", ["https://git.example/users.git", "ssh://git@git.example/x", "git@git.example:x.git"])
def test_load_repository_url_stays_as_it_is(folder: Path, url: str) -> None:
    """Only paths are relative to the folder of ptt.toml."""
    write(folder / "ptt.toml", f'[users]\nrepository = "{url}"\n')
    assert load_settings().users.repository == url


def test_load_empty_path_means_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty path is no path, and not the current folder."""
    write(folder / "ptt.toml", '[ingress]\nkey_file = ""\ncertificate_file = "c.pem"\n')
    monkeypatch.setenv("PTT_INGRESS__CERTIFICATE_FILE", "")
    ingress = load_settings().ingress
    assert (ingress.key_file, ingress.certificate_file) == (None, None)


def test_load_everything_wrong_is_reported_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All problems of all sources, one line each, and what was meant."""
    write(
        folder / "ptt.toml",
        """\
[ingres]
hostname = "mail.example.test"
[ingress]
hostnam = "mail.example.test"
timeout_s = 0
listen = [ { address = "127.0.0.1", port = 70000, tls = "implicitly", prot = 1 }, { address = "127.0.0.1", port = 1 } ]
[relay]
uncertain = "rety"
[empty]
""",
    )
    write(folder / "credentials/redis.urll", "x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder / "credentials"))
    monkeypatch.setenv("PTT_INGRESS__HOSTNME", "x")
    monkeypatch.setenv("PTT_RELAY__MAX_AGE_S", "soon")
    monkeypatch.setenv("PTT_RELAY__RESOLVERS", "127.0.0.1")
    monkeypatch.setenv("PTT_REDIS__URL_FILE", "nowhere")
    monkeypatch.setenv("PTT_USERS", "[]")
    monkeypatch.setenv("PTT_LOG", '{"levels": "info"}')
    assert sorted(list_problems()) == sorted(
        [
            "ptt.toml: ingres: unknown key; did you mean ingress?",
            "ptt.toml: ingress.hostnam: unknown key; did you mean hostname?",
            "ptt.toml: ingress.timeout_s: must be greater than or equal to 1, not 0",
            "ptt.toml: ingress.listen[0].port: must be less than or equal to 65535, not 70000",
            "ptt.toml: ingress.listen[0].tls: must be 'implicit' or 'starttls', not 'implicitly'",
            "ptt.toml: ingress.listen[0].prot: unknown key; did you mean port?",
            "ptt.toml: ingress.listen[1].tls: missing",
            "ptt.toml: relay.uncertain: must be 'retry' or 'hold', not 'rety'",
            "ptt.toml: empty: unknown key",
            f"{folder}/credentials/redis.urll: unknown key; did you mean redis.url?",
            "environment: PTT_INGRESS__HOSTNME: unknown key; did you mean PTT_INGRESS__HOSTNAME?",
            "environment: PTT_RELAY__MAX_AGE_S: must be a valid number, unable to parse string as a number, not 'soon'",
            "environment: PTT_RELAY__RESOLVERS: must be a list in JSON: Extra data: line 1 column 6 (char 5)",
            "environment: PTT_REDIS__URL_FILE: nowhere cannot be read: No such file or directory",
            "environment: PTT_USERS: must be a table in JSON",
            "environment: PTT_LOG: log.levels: unknown key; did you mean level?",
        ]
    )


@pytest.mark.parametrize(
    ("section", "line", "reason"),
    [
        (
            "ingress",
            'listen = [{address="::1",port=25,tls="implicit"},{address="::1",port=25,tls="starttls"}]',
            "ingress.listen: ::1 port 25 is there twice",
        ),
        ("ingress", "timeout_s = -1", "ingress.timeout_s: must be greater than or equal to 1, not -1"),
        ("ingress", "max_message_bytes = 5368709120", "ingress.max_message_bytes: must be less than or equal to"),
        ("redis", 'url = "http://redis.test"', "redis.url: must be a URL of redis://, rediss:// or unix://"),
        ("redis", 'url = "redis://"', "redis.url: must be a URL of redis://, rediss:// or unix://"),
        ("redis", 'url = "redis://:pw@r.test/x"', "redis.url: must end in the number of a database, such as"),
        ("redis", 'broker_url = "redis://r.test/0"', "redis.broker_url: must be on the same server as redis.url"),
        ("redis", 'url = "redis://r.test/0"', "redis: spool and wake-ups must not share database 0"),
        ("ingress", 'hostname = "mail"', "ingress.hostname: domain is not fully qualified"),
        (
            "users",
            'repository = "http://git.test/x"',
            "users.repository: must be a path, or a URL of https:// or ssh://",
        ),
        (
            "users",
            'repository = "git://git.test/x"',
            "users.repository: must be a path, or a URL of https:// or ssh://",
        ),
    ],
)
def test_load_value_that_cannot_work_is_refused(folder: Path, section: str, line: str, reason: str) -> None:
    """What would fail later, or be unsafe, fails at the start; a password is never repeated."""
    write(folder / "ptt.toml", f"[{section}]\n{line}\n")
    (problem,) = list_problems()
    assert problem.startswith(f"ptt.toml: {reason}")
    assert "pw" not in problem


def test_load_section_not_a_table_is_refused(folder: Path) -> None:
    """A plain value where a table belongs is one clear line."""
    write(folder / "ptt.toml", "ingress = 5\n")
    (problem,) = list_problems()
    assert problem.startswith("ptt.toml: ingress: must be a valid dictionary")


ROLE_NEEDS = {
    "ingress": {
        "redis.url",
        "ingress.hostname",
        "ingress.certificate_file",
        "ingress.key_file",
        "ingress.seal_key_file",
        "users.repository",
    },
    "sign": {"redis.url", "ingress.seal_key_file", "signing.keys_dir"},
    "relay": {"redis.url", "relay.hostname"},
    "up": {
        "ingress.hostname",
        "ingress.certificate_file",
        "ingress.key_file",
        "ingress.seal_key_file",
        "users.repository",
        "signing.keys_dir",
        "relay.hostname",
    },
}


@pytest.mark.parametrize("role", ROLE_NEEDS)
def test_load_for_role_names_what_is_missing(role: str) -> None:
    """Each role says all that it needs; only `up` starts its own Redis."""
    problems = list_problems(role=role)
    assert set(problems) == {f"ptt.toml: {key}: missing; `{role}` needs it" for key in ROLE_NEEDS[role]}


def test_load_for_relay_takes_the_hostname_of_ingress(monkeypatch: pytest.MonkeyPatch) -> None:
    """relay.hostname falls back to ingress.hostname."""
    monkeypatch.setenv("PTT_REDIS__URL", "redis://redis.test")
    monkeypatch.setenv("PTT_INGRESS__HOSTNAME", "Mail.Example.test")
    assert load_settings(role="relay").ehlo_hostname == "mail.example.test"
    monkeypatch.setenv("PTT_RELAY__HOSTNAME", "out.example.test")
    assert load_settings(role="relay").ehlo_hostname == "out.example.test"


def test_load_for_role_reports_unreadable_files_beside_refused_values(folder: Path) -> None:
    """A file that is not there and a value out of range are found in one go."""
    (folder / "folder").mkdir()
    write(folder / "file", "")
    text = """\
[redis]
url = "redis://redis.test"
[ingress]
seal_key_file = "nowhere"
[signing]
keys_dir = "file"
processes = -1
[dns_update]
tsig_secret_file = "folder"
"""
    write(folder / "ptt.toml", text)
    assert sorted(list_problems(role="sign")) == [
        "ptt.toml: dns_update.tsig_secret_file: cannot be read: is a folder",
        "ptt.toml: ingress.seal_key_file: cannot be read: No such file or directory",
        "ptt.toml: signing.keys_dir: cannot be read: is no folder",
        "ptt.toml: signing.processes: must be greater than or equal to 0, not -1",
    ]


@pytest.mark.parametrize(
    ("url", "spool", "broker"),
    [
        ("redis://r.test", "redis://r.test/1", "redis://r.test/0"),
        ("rediss://u:p@r.test:7000/5?x=2", "rediss://u:p@r.test:7000/5?x=2", "rediss://u:p@r.test:7000/0?x=2"),
        ("unix:///run/r.sock", "unix:///run/r.sock?db=1", "unix:///run/r.sock?db=0"),
        ("unix:///run/r.sock?db=3", "unix:///run/r.sock?db=3", "unix:///run/r.sock?db=0"),
    ],
)
def test_redis_urls_name_their_database(monkeypatch: pytest.MonkeyPatch, url: str, spool: str, broker: str) -> None:
    """The spool is database 1 and the wake-ups are database 0 of the same server unless it is said otherwise."""
    monkeypatch.setenv("PTT_REDIS__URL", url)
    settings = load_settings()
    assert (settings.spool_url, settings.broker_url, settings.broker_database) == (spool, broker, 0)


def test_redis_broker_url_on_the_same_server_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wake-ups may have another database and another account."""
    monkeypatch.setenv("PTT_REDIS__URL", "redis://a:b@r.test:6379/4")
    monkeypatch.setenv("PTT_REDIS__BROKER_URL", "redis://c:d@r.test/7")
    settings = load_settings()
    assert (settings.broker_url, settings.broker_database) == ("redis://c:d@r.test/7", 7)


def test_redis_urls_without_url_are_none() -> None:
    """Under `ptt up` there is no URL until the embedded server runs."""
    assert (Settings().spool_url, Settings().broker_url, Settings().broker_database) == (None, None, 0)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:pw@r.test/1", "redis://user:***@r.test/1"),
        ("redis://:pw@r.test/1", "redis://:***@r.test/1"),
        ("redis://r.test/1?password=pw&x=y", "redis://r.test/1?password=***&x=y"),
        ("unix:///run/r.sock?db=1", "unix:///run/r.sock?db=1"),
        ("https://pw@git.test/users.git", "https://***@git.test/users.git"),
        ("https://bot:pw@git.test/users.git", "https://bot:***@git.test/users.git"),
        ("ssh://git@git.test/users.git", "ssh://git@git.test/users.git"),
    ],
)
def test_redact_url_hides_the_password_only(url: str, shown: str) -> None:
    """A URL can be shown to anyone afterwards."""
    assert redact_url(url) == shown


def test_redact_shows_no_password_of_any_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """The effective settings can be logged."""
    monkeypatch.setenv("PTT_REDIS__URL", "redis://u:sesame@r.test/1")
    monkeypatch.setenv("PTT_REDIS__BROKER_URL", "redis://u:sesame@r.test/0")
    monkeypatch.setenv("PTT_USERS__REPOSITORY", "https://u:sesame@git.test/x")
    text = json.dumps(redact(load_settings()))
    assert "sesame" not in text
    assert text.count("***") == 3


def test_origins_name_the_source_of_each_value(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wonders why a value is what it is can be told."""
    write(folder / "ptt.toml", '[ingress]\nhostname = "mail.example.test"\n')
    monkeypatch.setenv("PTT_LOG__LEVEL", "debug")
    loaded = load_with_origins()
    assert loaded.origins == {"ingress.hostname": "ptt.toml", "log.level": "environment: PTT_LOG__LEVEL"}


def test_fields_all_have_a_description() -> None:
    """`ptt init` and `ptt config show` print what the model says: nothing may be silent."""
    assert [key for key, field in list_fields() if not (field.description or "").endswith(".")] == []


def test_load_certificates_in_a_list_do_for_the_one(folder: Path) -> None:
    """Their paths start at the folder of the file too, and what cannot be read is named."""
    (folder / "a.pem").write_text("x")
    table = '{ certificate_file = "a.pem", key_file = "b.pem" }'
    config = write(folder / "ptt.toml", f"[ingress]\ncertificates = [{table}]\n")
    (only,) = load_settings(config).ingress.all_certificates
    assert (only.certificate_file, only.key_file) == (folder / "a.pem", folder / "b.pem")
    problems = [problem for problem in list_problems(config, "ingress") if "_file" in problem and "seal" not in problem]
    assert problems == [f"{config}: ingress.certificates[0].key_file: cannot be read: No such file or directory"]
