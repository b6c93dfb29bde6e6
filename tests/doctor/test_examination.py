"""All is asked at the same time and each within its time; a probe that fails or hangs is a finding."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.doctor.test_decisions import DISK, MACHINE, NAME, SERVER
from vbnfs.config.sources import load_config
from vbnfs.daemon.trial import Trial
from vbnfs.doctor.examination import CHECKS, DEFECT, PROBES, Answers, Examination, Order, Probe, examine
from vbnfs.doctor.findings import Finding, Level
from vbnfs.doctor.fuse import FuseFacts
from vbnfs.doctor.nearby import NearbyFacts
from vbnfs.doctor.throughput import ThroughputFacts, why_not_measured
from vbnfs.objects import ListedObject, ObjectAttributes, ObjectVersion
from vbnfs.rate import OFF

CONFIG = load_config(command_line={}, environ={}, config_file=Path("/dev/null"))
OTHER_SERVERS = {"mirror", "site cache"}
ORDER = Order(config=CONFIG, entries=())
FUSE = FuseFacts(
    way="mount(2)", trial=Trial(), unwanted=None, sharing_problems=(), lets_others_in=False, most_mounts=None
)
WELL: dict[str, Any] = {
    "machine": MACHINE,
    "fuse": FUSE,
    "disk": DISK,
    "mounts": (),
    "name": NAME,
    "server": SERVER,
    "mirror": (NearbyFacts("bucket=lab-copy", asked=ObjectVersion("a.nwb", None), is_mirror=True),),
    "site cache": (NearbyFacts("http://a", asked=ObjectVersion("a.nwb", "1")),),
    "throughput": ThroughputFacts(count_bytes=8 << 20, seconds=1.0),
}
Ask = Callable[[Order, Answers], Awaitable[Any]]


def giving(facts: Any) -> Ask:
    async def ask(_order: Order, _answers: Answers) -> Any:
        return facts

    return ask


async def hang(_order: Order, _answers: Answers) -> Any:
    await trio.sleep_forever()


async def fail(_order: Order, _answers: Answers) -> Any:
    async with trio.open_nursery():
        raise ZeroDivisionError("a mistake")


async def found_with(order: Order = ORDER, **others: Ask) -> Examination:
    """What is found where all is well but for some probes."""
    probes: dict[str, Probe] = {
        name: replace(probe, ask=others.get(name) or giving(WELL[name])) for name, probe in PROBES.items()
    }
    return await examine(order, probes)


def by_check(found: Examination) -> dict[str, Finding]:
    return {one.check: one.finding for one in found.results}


async def test_all_is_well() -> None:
    """Each check has a line, in the order of the table, and nothing needs doing."""
    found = await found_with()
    assert [one.check for one in found.results] == [check.name for check in CHECKS if check.name not in OTHER_SERVERS]
    assert {one.finding.level for one in found.results} == {Level.GOOD}
    assert found.to_do == []


@pytest.mark.parametrize("name", sorted(PROBES))
async def test_a_probe_that_hangs(name: str, autojump_clock: trio.testing.MockClock) -> None:
    """What gives no answer in time is said once, with a remedy; all that does not need it is found as always."""
    order = replace(
        ORDER, config=load_config(command_line={"mirror": "bucket=lab-copy", "site_cache": "http://a"}, environ={})
    )
    found = await found_with(order, **{name: hang})
    concerned = [check.name for check in CHECKS if name in check.probes]
    speaker = name if name in concerned else concerned[0]
    results = by_check(found)
    assert results[speaker].level is Level.TO_DO
    assert results[speaker].remedy
    assert {results[check].text for check in concerned if check != speaker} <= {f"see {speaker}"}
    assert {results[check.name].level for check in CHECKS if name not in check.probes} == {Level.GOOD}
    assert trio.current_time() <= 100.0


async def test_probes_that_hang_at_the_same_time(autojump_clock: trio.testing.MockClock) -> None:
    """All that hang are waited for at the same time: as long as the most patient of them."""
    began = trio.current_time()
    found = await found_with(**dict.fromkeys(PROBES, hang))
    assert trio.current_time() - began == pytest.approx(max(probe.seconds for probe in PROBES.values()))
    assert {one.finding.level for one in found.results} == {Level.TO_DO, Level.LEFT_OUT}


async def test_a_user_reads_what_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    """After some seconds that is said once; where all answer by then, nothing is."""
    said: list[Sequence[str]] = []
    probes = {
        name: replace(probe, ask=hang if name == "server" else giving(WELL[name])) for name, probe in PROBES.items()
    }
    await examine(ORDER, probes, say_waiting=said.append)
    assert said == [["server"]]
    await examine(ORDER, {**probes, "server": replace(PROBES["server"], ask=giving(SERVER))}, say_waiting=said.append)
    assert said == [["server"]]


async def test_a_probe_that_fails() -> None:
    """A mistake of the program in a probe is a finding, and keeps no other check from its own."""
    found = await found_with(disk=fail)
    finding = by_check(found)["disk"]
    assert (finding.level, finding.section) == (Level.TO_DO, DEFECT)
    assert "ZeroDivisionError: a mistake" in finding.text
    assert found.to_do == ["disk"]


async def test_without_network() -> None:
    """With --offline nothing of the network is asked, and nothing of it needs doing."""
    order = replace(ORDER, config=replace(CONFIG, offline=True))
    found = await found_with(
        order, **dict.fromkeys((name for name, one in PROBES.items() if one.is_of_network), fail)
    )
    left = {one.check: one.finding.text for one in found.results if one.finding.level is Level.LEFT_OUT}
    assert left == dict.fromkeys(("clock", "name", "proxy", "certificates", "server", "throughput"), "--offline")
    assert found.to_do == []


async def test_throughput_is_not_measured() -> None:
    """Without a wish, without a server, or with a limit of the rate nothing is fetched."""
    unwanted = await found_with(replace(ORDER, is_measured=False), throughput=PROBES["throughput"].ask)
    assert by_check(unwanted)["throughput"].text == "--no-throughput"
    unlisted = await found_with(throughput=PROBES["throughput"].ask)
    assert by_check(unlisted)["throughput"].text == "see server"
    listed = replace(SERVER, listed=(ListedObject("m", ObjectAttributes(1, 0)),))
    limited = replace(DISK, rate_bytes=5 << 20)
    assert "limit of 5.0 MiB/s" in str(why_not_measured(CONFIG, listed, limited))
    assert "limit of 1.0 MiB/s" in str(why_not_measured(replace(CONFIG, limit_rate_bytes=1 << 20), listed, None))
    assert why_not_measured(replace(CONFIG, limit_rate_bytes=OFF), listed, limited) is None
    assert why_not_measured(CONFIG, listed, DISK) is None
