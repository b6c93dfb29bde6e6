"""The examination: what is asked, at the same time and each within its time, and what each check makes of it.

A *probe* gathers facts of one place. A *check* is a decision on the facts of some probes. Each stands in a table.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import trio

from vbnfs.config.settings import Config
from vbnfs.doctor import disk, disk_question, fuse, machine, mounts, nearby, network, throughput
from vbnfs.doctor.findings import Finding, Level, left_out, to_do
from vbnfs.errors import UsageError
from vbnfs.host.mountinfo import MountEntry
from vbnfs.objects import ListedObject

_PATIENCE_SECONDS: Final = 4.0  # without a word; where all is well, it takes about two
DEFECT: Final = "the-daemon-ended-or-there-was-a-defect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be examined. `refusal`: settings of variables or files cannot be used, and `config` is without them.

    `entries` are the mounts that there were when it began.
    """

    config: Config
    refusal: UsageError | None = None
    is_measured: bool = True  # throughput
    entries: tuple[MountEntry, ...] = field(default_factory=lambda: tuple(mounts.ours()))


@dataclass(frozen=True, slots=True)
class Unanswered:
    """What stands in the place of facts that could not be had."""

    finding: Finding


class Answers:
    """The facts of each probe, once they are there."""

    def __init__(self, names: Iterable[str]) -> None:
        self._events = {name: trio.Event() for name in names}
        self.found: dict[str, Any] = {}

    @property
    def lacking(self) -> list[str]:
        """The probes whose facts are not there yet."""
        return [name for name in self._events if name not in self.found]

    def give(self, name: str, facts: Any) -> None:
        """They are there."""
        self.found[name] = facts
        self._events[name].set()

    async def of(self, name: str) -> Any:
        """Wait for them; None in the place of facts that cannot be had."""
        await self._events[name].wait()
        facts = self.found[name]
        return None if isinstance(facts, Unanswered) else facts


@dataclass(frozen=True, slots=True)
class Probe:
    """Facts, asked for within some seconds. `silent`: what is said where no answer comes by then."""

    ask: Callable[[Order, Answers], Awaitable[Any]]
    seconds: float
    silent: Callable[[Order], Finding]
    is_of_network: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """A decision on the facts of some probes, which `decide` gets in this order, behind the order."""

    name: str
    probes: tuple[str, ...]
    decide: Callable[..., Iterable[Finding]]
    is_wanted: Callable[[Order], bool] = lambda _order: True


@dataclass(frozen=True, slots=True)
class Result:
    """A finding, and the name of its check."""

    check: str
    finding: Finding


# What is asked


async def _ask_machine(order: Order, _answers: Answers) -> machine.MachineFacts:
    return await trio.to_thread.run_sync(machine.ask_machine, order.config, abandon_on_cancel=True)


async def _ask_fuse(order: Order, _answers: Answers) -> fuse.FuseFacts:
    return await fuse.ask_fuse(order.config)


async def _ask_disk(order: Order, _answers: Answers) -> disk.DiskFacts:
    return await disk_question.ask_disk(order.config)


async def _ask_mounts(order: Order, _answers: Answers) -> tuple[mounts.MountFacts, ...]:
    return await mounts.ask_mounts(list(order.entries))


async def _ask_name(order: Order, _answers: Answers) -> network.NameFacts:
    return await network.ask_name(order.config)


async def _ask_server(order: Order, _answers: Answers) -> network.ServerFacts:
    return await network.ask_server(order.config)


async def _ask_mirror(order: Order, answers: Answers) -> Sequence[nearby.NearbyFacts]:
    return await nearby.ask_mirror(order.config, await _listed(answers)) if _has_mirror(order) else ()


async def _ask_site_caches(order: Order, answers: Answers) -> Sequence[nearby.NearbyFacts]:
    return await nearby.ask_site_caches(order.config, await _listed(answers)) if _has_site_caches(order) else ()


async def _listed(answers: Answers) -> Sequence[ListedObject]:
    server = await answers.of("server")
    return () if server is None else server.listed


async def _measure(order: Order, answers: Answers) -> throughput.ThroughputFacts:
    if not order.is_measured:
        return throughput.ThroughputFacts(reason="--no-throughput")
    server, stored = await answers.of("server"), await answers.of("disk")
    reason = throughput.why_not_measured(order.config, server, stored)
    if reason is not None:
        return throughput.ThroughputFacts(reason=reason)
    return await throughput.measure(order.config, server.listed)


def _silent(text: str, remedy: str, section: str) -> Callable[[Order], Finding]:
    return lambda order: to_do(text.format(config=order.config), remedy, section=section)


_NETWORK: Final = ("check the network and the proxy variables", "the-server-cannot-be-reached")
_NO_SERVER: Final = _silent("the server does not answer", *_NETWORK)
PROBES: Final[Mapping[str, Probe]] = {
    "machine": Probe(_ask_machine, 10.0, _silent("the system does not answer", "look into 'dmesg'", DEFECT)),
    "fuse": Probe(
        _ask_fuse,
        60.0,
        _silent("a trial mount is not at its end", "look into 'dmesg'", "the-system-refuses-the-mount"),
    ),
    "disk": Probe(
        _ask_disk,
        20.0,
        _silent(
            "the disk of {config.cache_dir} or of {config.log_file} does not answer",
            "check that disk, or choose another one with --cache-dir and --log-file",
            "the-daemon-does-not-answer",
        ),
    ),
    "mounts": Probe(
        _ask_mounts,
        30.0,
        _silent("a mount does not answer", "'vbnfs status FOLDER' asks one", "the-daemon-does-not-answer"),
    ),
    "name": Probe(
        _ask_name,
        15.0,
        _silent("the network's name server does not answer", "check /etc/resolv.conf and the network", _NETWORK[1]),
        is_of_network=True,
    ),
    "server": Probe(_ask_server, 40.0, _NO_SERVER, is_of_network=True),
    "mirror": Probe(
        _ask_mirror,
        80.0,  # half of them for the server
        _silent("the mirror does not answer; reads go on without it", _NETWORK[0], nearby.SECTION),
        is_of_network=True,
    ),
    "site cache": Probe(
        _ask_site_caches,
        80.0,  # half of them for the server
        _silent("a site cache does not answer; reads go on without it", _NETWORK[0], nearby.SECTION),
        is_of_network=True,
    ),
    "throughput": Probe(_measure, 90.0, _NO_SERVER, is_of_network=True),
}


# What it means, in the order in which it is shown


def _passthrough(_order: Order, found: fuse.FuseFacts, stored: disk.DiskFacts) -> Iterator[Finding]:
    return fuse.decide_passthrough(found, is_local=stored.is_local)


def _settings(order: Order, facts: machine.MachineFacts) -> Iterator[Finding]:
    return machine.decide_settings(order.refusal, facts)


def _has_mirror(order: Order) -> bool:
    return order.config.mirror is not None


def _has_site_caches(order: Order) -> bool:
    return bool(order.config.site_cache)


def _of(decide: Callable[..., Iterable[Finding]]) -> Callable[..., Iterable[Finding]]:
    """The decision that needs no order."""
    return lambda _order, *facts: decide(*facts)


CHECKS: Final[Sequence[Check]] = (
    Check("settings", ("machine",), _settings),
    Check("versions", ("machine",), _of(machine.decide_versions)),
    Check("kernel", ("machine",), _of(machine.decide_kernel)),
    Check("fuse", ("fuse",), _of(fuse.decide_fuse)),
    Check("passthrough", ("fuse", "disk"), _passthrough),
    Check("limits", ("machine",), _of(machine.decide_limits)),
    Check("folder", ("disk",), _of(disk.decide_folder)),
    Check("disk", ("disk",), _of(disk.decide_disk)),
    Check("cache", ("disk",), _of(disk.decide_cache)),
    Check("log", ("disk",), _of(disk.decide_log)),
    Check("clock", ("server",), _of(network.decide_clock)),
    Check("name", ("name",), _of(network.decide_name)),
    Check("proxy", ("name", "server"), _of(network.decide_proxy)),
    Check("certificates", ("server",), _of(network.decide_certificates)),
    Check("server", ("name", "server"), _of(network.decide_server)),
    Check("mirror", ("mirror",), _of(nearby.decide), _has_mirror),
    Check("site cache", ("site cache",), _of(nearby.decide), _has_site_caches),
    Check("throughput", ("throughput",), _of(throughput.decide_throughput)),
    Check("mounts", ("mounts",), _of(mounts.decide_mounts)),
)


# Carrying it out


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, and the facts from which it comes, by probe; `Unanswered` where there are none."""

    results: tuple[Result, ...]
    facts: Mapping[str, Any]

    @property
    def to_do(self) -> list[str]:
        """The checks of which something needs doing."""
        return list(dict.fromkeys(one.check for one in self.results if one.finding.level is Level.TO_DO))


async def examine(
    order: Order,
    probes: Mapping[str, Probe] = PROBES,
    *,
    say_waiting: Callable[[Sequence[str]], None] = lambda names: None,
) -> Examination:
    """Ask all probes, and decide. Raises nothing: a probe that fails is a finding.

    `say_waiting` is called after some seconds with the probes that have not answered yet, if there are any.
    """
    answers = Answers(probes)
    async with trio.open_nursery() as waiting:
        waiting.start_soon(_say_in_time, answers, say_waiting)
        async with trio.open_nursery() as nursery:
            for name, probe in probes.items():
                nursery.start_soon(_ask, order, name, probe, answers)
        waiting.cancel_scope.cancel()
    return Examination(tuple(decide(order, answers.found)), answers.found)


async def _say_in_time(answers: Answers, say_waiting: Callable[[Sequence[str]], None]) -> None:
    await trio.sleep(_PATIENCE_SECONDS)
    say_waiting(answers.lacking)


async def _ask(order: Order, name: str, probe: Probe, answers: Answers) -> None:
    if probe.is_of_network and order.config.offline:
        answers.give(name, Unanswered(left_out("--offline")))
        return
    facts: Any = Unanswered(probe.silent(order))
    try:
        with trio.move_on_after(probe.seconds):
            facts = await probe.ask(order, answers)
    except Exception as error:
        facts = Unanswered(_defect(error))
    answers.give(name, facts)


def _defect(error: Exception) -> Finding:
    cause: Exception = error
    while isinstance(cause, ExceptionGroup):
        cause = cause.exceptions[0]
    return to_do(
        f"it could not be checked ({type(cause).__name__}: {cause}): a defect of vbnfs",
        "please report it",
        section=DEFECT,
    )


def decide(order: Order, found: Mapping[str, Any], checks: Sequence[Check] = CHECKS) -> Iterator[Result]:
    """The findings of all checks, in their order (pure). What keeps several from deciding is said by one of them."""
    for check in checks:
        if not check.is_wanted(order):
            continue
        lacking = next((name for name in check.probes if isinstance(found[name], Unanswered)), None)
        if lacking is None:
            facts = [found[name] for name in check.probes]
            yield from map(partial(Result, check.name), check.decide(order, *facts))
        else:
            yield Result(check.name, _finding_without(check, lacking, found[lacking].finding, checks))


def _finding_without(check: Check, probe: str, finding: Finding, checks: Sequence[Check]) -> Finding:
    """What a check says without the facts of a probe: why they are not there, or which check says that."""
    names = [one.name for one in checks if probe in one.probes]
    speaker = probe if probe in names else names[0]
    return left_out(f"see {speaker}") if finding.level is Level.TO_DO and check.name != speaker else finding
