"""How long reading a file takes on a simulated link, against the time in which its connections could bring it."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scenarios.network.simulated_link import Line, Simulation
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.link import Link, Width

MB: Final = 10**6
LINES: Final = {
    "lan": Line(0.0005, 250e6),
    "near": Line(0.04, 60e6),
    "home": Line(0.06, 25e6),
    "transatlantic": Line(0.15, 5e6),
    "home, 1 Gbit/s": Line(0.06, 25e6, 120e6),
}


@pytest.mark.parametrize(
    ("name", "connections", "small", "middle", "large"),
    [
        ("lan", 16, 0.55, 0.85, 0.97),
        ("near", 16, 0.84, 0.64, 0.82),
        ("home", 16, 0.86, 0.74, 0.86),
        ("transatlantic", 16, 0.87, 0.83, 0.89),
        ("home, 1 Gbit/s", 16, 0.93, 0.95, 0.98),
        ("near", 32, 0.84, 0.59, 0.80),
        ("home", 32, 0.81, 0.52, 0.79),
        ("transatlantic", 32, 0.80, 0.73, 0.87),
        ("home, 1 Gbit/s", 32, 0.93, 0.95, 0.98),
    ],
)
def test_a_file_takes_little_longer_than_its_bytes(
    name: str, connections: int, small: float, middle: float, large: float
) -> None:
    """10 MB, 600 MB and 3 GB by a program that reads 1.5 GB/s: so much of what the connections could bring."""
    line = LINES[name]
    for size_bytes, least in ((10 * MB, small), (600 * MB, middle), (3000 * MB, large)):
        simulation = Simulation(line, size_bytes, most=connections)
        reached = line.ideal_seconds(size_bytes, connections) / simulation.run()
        print(f"{name}, {size_bytes // MB} MB: {reached:.3f} of the ideal, {simulation.requests} requests")
        assert reached >= least
        assert simulation.most_at_a_time <= connections


def test_more_connections_are_used_where_they_bring_more() -> None:
    """Far away up to all that there may be; where the link itself is the limit, one step at the most."""
    far, narrow = (Simulation(LINES[name], 6000 * MB, most=64) for name in ("transatlantic", "home, 1 Gbit/s"))
    far.run()
    narrow.run()
    assert far.width.gets == 64
    assert narrow.width.gets <= 36


def test_what_was_learned_serves_the_next_file() -> None:
    """The second file is read no slower than the first."""
    first = Simulation(LINES["home"], 600 * MB, most=32)
    seconds = first.run()
    assert Simulation(LINES["home"], 600 * MB, most=32, link=first.link, width=first.width).run() <= seconds


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 300 * MB),
    st.floats(0.0001, 0.3),
    st.floats(1e6, 1e9),
    st.floats(1e7, 1e10),
    st.integers(1, 64),
    st.builds(Link, st.floats(0, 1), st.floats(0, 1e9)),
)
def test_every_file_is_read_to_its_end(
    size_bytes: int, first_byte_seconds: float, rate: float, total_rate: float, most: int, believed: Link
) -> None:
    """On any link, with any belief of it: each block once, and never more GETs at a time than are allowed."""
    line = Line(first_byte_seconds, rate, total_rate)
    simulation = Simulation(line, size_bytes, most=most, link=believed, width=Width.at_first(most))
    assert simulation.run() >= line.ideal_seconds(size_bytes, most) - BLOCK_BYTES / min(rate, total_rate)
    assert simulation.fetched_blocks == -(-size_bytes // BLOCK_BYTES)
    assert simulation.most_at_a_time <= most
