"""The shapes of sessions that are measured, so that nothing is tuned to one: all are genuine NWB files."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from hdmf.backends.hdf5 import H5DataIO
from pynwb import NWBFile, TimeSeries
from pynwb.core import Data

from vbnfs.demo.chance import stream
from vbnfs.demo.nwb import Change, unchanged
from vbnfs.demo.scale import ReleaseScale

_UNITS: Final = 1700
_LEAST_UNITS: Final = 100
_LFP_SECONDS: Final = 480
_LEAST_LFP_SECONDS: Final = 12  # of which ten are read
_SMALL_SERIES: Final = 2500  # of two datasets each
_SMALL_SAMPLES: Final = 200
_LARGE_SPIKES_PER_UNIT: Final = 87_000
_LEAST_FILTERED_BYTES: Final = 1 << 16  # filters want chunks, and chunks of less are no use
_FILTERS: Final = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "chunks": True}


@dataclass(frozen=True, slots=True)
class Shape:
    """How a session is laid out. `change` is made from the scale; `has_lfp`: it is made to the LFP file as well."""

    name: str
    about: str
    change: Callable[[float], Change] = lambda scale: unchanged
    has_lfp: bool = False
    spikes_per_unit: int | None = None

    def release(self, scale: float) -> ReleaseScale:
        """The release to draw. Below a quarter, images, time and spikes shrink as the number of units does (pure)."""
        real = ReleaseScale.real_session()
        rest = min(1.0, 4 * scale)
        height, width = real.template_shape
        return replace(
            real,
            units_per_session=max(_LEAST_UNITS, round(_UNITS * scale)),
            spikes_per_unit=round((self.spikes_per_unit or real.spikes_per_unit) * rest),
            session_seconds=max(600, round(real.session_seconds * rest)),
            template_shape=(round(height * rest), round(width * rest)),
            lfp_seconds=max(_LEAST_LFP_SECONDS, round(_LFP_SECONDS * scale)),
        )


def compress(file: NWBFile) -> None:
    """Have its larger arrays stored in chunks (as h5py guesses them), shuffled and compressed by gzip."""
    for one in file.objects.values():
        if isinstance(one, Data) and _is_large(one.data):
            one.set_data_io(H5DataIO, _FILTERS)
        elif isinstance(one, TimeSeries):
            for field in ("data", "timestamps"):
                if _is_large(one.fields.get(field)):
                    one.set_data_io(field, H5DataIO, _FILTERS)


def _is_large(data: Any) -> bool:
    return isinstance(data, np.ndarray) and data.dtype.kind in "fiu" and data.nbytes >= _LEAST_FILTERED_BYTES


def add_small(count: int) -> Change:
    """Add `count` series with 200 samples each: twice as many small datasets."""

    def change(file: NWBFile) -> None:
        module = file.create_processing_module("small", "many small series")
        for number in range(count):
            random = stream(0, "small series", number)
            times = np.sort(random.random(_SMALL_SAMPLES))
            data = random.normal(size=_SMALL_SAMPLES)
            module.add(TimeSeries(name=f"series_{number:05d}", data=data, unit="V", timestamps=times))

    return change


SHAPES: Final = {
    shape.name: shape
    for shape in (
        Shape("session", "a session as the real ones are, about 1 GB"),
        Shape("chunked", "a session in chunks, shuffled and compressed", lambda scale: compress, has_lfp=True),
        Shape(
            "small",
            "a session with 5,000 small datasets more",
            lambda scale: add_small(max(50, round(_SMALL_SERIES * scale))),
        ),
        Shape("large", "a session of 3 GB", spikes_per_unit=_LARGE_SPIKES_PER_UNIT),
    )
}
