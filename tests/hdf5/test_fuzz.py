"""Whatever the bytes are, a walk ends within its bounds, and raises nothing."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hdf5.running import check
from tests.hdf5.samples import Sample, samples

damages = st.lists(
    st.one_of(
        st.tuples(st.just("cut"), st.integers(0, 1 << 16), st.just(b"")),
        st.tuples(st.just("write"), st.integers(0, 1 << 14), st.binary(min_size=1, max_size=9)),
        st.tuples(
            st.just("copy"), st.integers(0, 1 << 14), st.integers(0, 1 << 14).map(lambda n: n.to_bytes(8, "little"))
        ),
    ),
    max_size=8,
)


def damaged(data: bytes, done: list[tuple[str, int, bytes]]) -> bytes:
    """A file that was cut, has other bytes in places, or addresses that lead elsewhere in it."""
    for kind, place, value in done:
        if kind == "cut":
            data = data[: place % (len(data) + 1)]
        elif data:
            start = place % len(data)
            data = data[:start] + value + data[start + len(value) :]
    return data


@settings(
    max_examples=max(1, settings.default.max_examples // 2),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(samples, damages)
def test_a_damaged_file(sample: Sample, done: list[tuple[str, int, bytes]]) -> None:
    """A file of h5py's that was cut, or has wrong bytes or addresses, is walked as far as it goes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.h5"
        sample.write(path)
        check(damaged(path.read_bytes(), done))


@given(st.binary(max_size=4096), st.sampled_from([0, 1, 2, 3, 200]))
def test_any_bytes(junk: bytes, version: int) -> None:
    """Bytes that are no HDF5 file, or only begin like one, are walked without harm."""
    check(junk)
    check(b"\x89HDF\r\n\x1a\n" + bytes([version]) + junk)
