"""What the machine is and grants, and what that means."""

import platform
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from vbnfs import __version__
from vbnfs.config.environment import foreign_home
from vbnfs.config.settings import Config
from vbnfs.daemon.machine import check_limits, problems_of_the_machine, within_the_machine
from vbnfs.doctor.findings import Finding, failed, good, note, size_text, to_do
from vbnfs.errors import MountError, UsageError
from vbnfs.host import limits
from vbnfs.s3.curl_options import LIBCURL_VERSION

LEAST_KERNEL: Final = (3, 15)  # FUSE 7.23
_PASSTHROUGH_KERNEL: Final = (6, 9)
_LIMITS: Final = "too-little-memory-or-too-few-open-files"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """`problems` are of limits and of the folder for control sockets; `lowered` what settings get less of."""

    system: str  # Linux
    kernel: str  # 6.18.5-amd64
    distribution: str
    versions: tuple[str, ...]
    foreign_home: str | None
    open_files: int | None
    data_bytes: int | None
    refusal: MountError | None
    problems: tuple[str, ...]
    lowered: tuple[str, ...]


def ask_machine(config: Config) -> MachineFacts:
    """The facts."""
    return MachineFacts(
        system=platform.system(),
        kernel=platform.release(),
        distribution=_distribution(),
        versions=(
            f"vbnfs {__version__}",
            f"Python {platform.python_version()}",
            f"libcurl {LIBCURL_VERSION}",
            " ".join(ssl.OPENSSL_VERSION.split()[:2]),
        ),
        foreign_home=foreign_home(),
        open_files=limits.most_open_files(),
        data_bytes=limits.most_data_bytes(),
        refusal=_refusal_of(check_limits),
        problems=problems_of_the_machine(),
        lowered=tuple(_lowered(config)),
    )


def _distribution() -> str:
    """As /etc/os-release names it (os-release(5)); '' where there is none."""
    with suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return ""


def _refusal_of(check: Callable[[], None]) -> MountError | None:
    try:
        check()
    except MountError as error:
        return error
    return None


def _lowered(config: Config) -> Iterator[str]:
    granted = within_the_machine(config)
    if granted.io_timeout_seconds < config.io_timeout_seconds:
        seconds = granted.io_timeout_seconds
        yield f"a mount's --io-timeout is {seconds:g} s: the kernel (fs.fuse.*_request_timeout) waits no longer"
    if granted.memory_limit_bytes < config.memory_limit_bytes:
        yield f"a mount's --memory-limit is {size_text(granted.memory_limit_bytes)}: its control group allows no more"


def decide_settings(refusal: UsageError | None, facts: MachineFacts) -> Iterator[Finding]:
    """Whether variables and files of settings can be used; `refusal`: why not."""
    if refusal is not None:
        yield Finding(failed(refusal).level, f"{refusal}; what follows goes by the defaults and the command line")
    if facts.foreign_home is not None:
        yield to_do(
            f"HOME is {facts.foreign_home}, which is not yours",
            "'su -' or 'sudo -i' sets your own",
            section="the-log-file-cannot-be-written",
        )
    if refusal is None and facts.foreign_home is None:
        yield good("they can be used")


def decide_versions(facts: MachineFacts) -> Iterator[Finding]:
    """For people who are to help."""
    yield good(", ".join(facts.versions))


def decide_kernel(facts: MachineFacts) -> Iterator[Finding]:
    """Whether the kernel is new enough."""
    name = " ".join(filter(None, (facts.system, facts.kernel)))
    release = re.match(r"(\d+)\.(\d+)", facts.kernel)
    number = (int(release[1]), int(release[2])) if release else LEAST_KERNEL
    if facts.system != "Linux" or number < LEAST_KERNEL:
        wanted = ".".join(map(str, LEAST_KERNEL))
        yield to_do(
            f"{name}: Linux {wanted} or later is needed",
            "update the system, or mount on another machine",
            section="the-system-refuses-the-mount",
        )
    elif number < _PASSTHROUGH_KERNEL:
        yield note(f"{name}: it works; from Linux 6.9 on, the kernel reads whole cached files itself, for root")
    else:
        yield good(name)


def decide_limits(facts: MachineFacts) -> Iterator[Finding]:
    """Whether enough is granted."""
    if facts.refusal is not None:
        yield failed(facts.refusal)
    for problem in facts.problems:
        is_of_sockets = "vbnfs status" in problem
        yield to_do(problem, section="vbnfs-status-does-not-reach-the-mount" if is_of_sockets else _LIMITS)
    yield from map(note, facts.lowered)
    if facts.refusal is None and not facts.problems:
        files = "any number of" if facts.open_files is None else f"{facts.open_files:,}"
        memory = "without a limit" if facts.data_bytes is None else f"up to {size_text(facts.data_bytes)}"
        yield good(f"{files} open files; memory {memory}")
