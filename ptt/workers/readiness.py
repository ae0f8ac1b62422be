"""Whether a role can start: its settings, and what the files hold that they name. All that is wrong, at once.

Knows no format of a file: a check reads one in the way in which the role reads it when it starts. Nothing is asked over
a network, and nothing is changed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ptt.core.errors import ConfigError
from ptt.settings import Loaded, Settings, Survey, survey_settings


@dataclass(frozen=True, slots=True)
class Check:
    """One step of a role's start that can be tried beforehand."""

    keys: tuple[str, ...]
    """What it reads. It is not run if one of them is refused, missing or unreadable: that is said already."""
    run: Callable[[], object]
    """Raises ConfigError with lines ``file: key: reason``, or ``key: reason`` where the fault is in no file."""


Checks = Callable[[Settings], Iterable[Check]]
"""Lists the checks of a role."""


def load_ready(config: Path | None, role: str, checks: Iterable[Checks]) -> Loaded:
    """Load the settings of a role that can start with them.

    Args:
        config: the file to read; else that of the usual places.
        role: ``ingress``, ``sign``, ``relay`` or ``up``.
        checks: what lists the checks of this role, or of all that `up` starts.

    Raises:
        ConfigError: one line for each problem, all at once.
    """
    survey = survey_settings(config, role=role)
    listed = [check for list_checks in checks for check in list_checks(survey.loaded.settings)]
    problems = [*survey.problems, *(line for check in listed for line in _list_faults(check, survey))]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return survey.loaded


def _list_faults(check: Check, survey: Survey) -> Iterator[str]:
    if survey.wrong_keys & {*check.keys, *(key.partition(".")[0] for key in check.keys)}:
        return
    try:
        check.run()
    except ConfigError as error:
        for line in error.problems:
            key, _, reason = line.partition(": ")
            yield f"{survey.locate(key)}: {reason}" if key in check.keys else line
