"""Messages as a Python program's user reads them: settings have their names there, and no options are typed."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vbnfs.config.settings import SETTING_BY_NAME
from vbnfs.errors import VbnfsError, with_remedy

# Options of commands that are parameters of this package's functions, too.
_PARAMETERS: Final = {"fetch": "fetch=True"} | {one: one for one in ("behavior_only", "having", "lfp", "sessions")}
# A command that stands in quotes is to be typed into a shell, and stays; so does a part of a path. The place of
# a file in a mount, `manifests/v0.5.0/...`, is `v0.5.0/...` here.
_OPTIONS: Final = re.compile(
    r"""'vbnfs\ [^']*'
    |(?<![\w/])(?P<above>manifests/)(?=v\d)
    |(?<![\w/-])--having[- ](?P<table>\w+)\ "\.\.\."
    |(?<![\w/-])--(?P<name>[a-z]+(?:-[a-z]+)*[a-z0-9]*)(?:-\.\.\.)?(?:\ (?P<value>QUERY|yes)\b)?""",
    re.VERBOSE,
)


@contextmanager
def python_messages() -> Iterator[None]:
    """While entered, an error of vbnfs says what it says as Python has it, and its remedy."""
    try:
        yield
    except VbnfsError as error:
        put_in_python(error)
        raise


def put_in_python(error: VbnfsError) -> None:
    """Have an error's message be that of `python_messages`. A second time changes nothing."""
    error.args = (in_python(with_remedy(error)),)
    error.remedy = ""


def in_python(text: str) -> str:
    """A message whose options are written as Python has them.

    `--cache-size` is `cache_size`, `--offline` is `offline=True`, `--sessions QUERY` is `sessions="..."`.
    """
    return _OPTIONS.sub(_as_python, text)


def _as_python(found: re.Match[str]) -> str:
    if found["above"]:
        return ""
    if found["table"]:
        return f'having={{"{found["table"]}": "..."}}'
    name = (found["name"] or "").replace("-", "_")
    setting = SETTING_BY_NAME.get(name)
    if setting is None and name not in _PARAMETERS:
        return found[0]
    is_set = setting is not None and setting.is_flag and not _is_about_its_value(found)
    word = _PARAMETERS.get(name, f"{name}=True" if is_set else name)
    if found["value"] is None:
        return word
    return f'{word}="{"..." if found["value"] == "QUERY" else found["value"]}"'


def _is_about_its_value(found: re.Match[str]) -> bool:
    """Whether a message begins with an option, as `--offline: 'perhaps' will not do`: then it is not set yet."""
    return found.start() == 0 and found.string[found.end() :].startswith(":")
