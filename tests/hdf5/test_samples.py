"""Files of every form are read as h5py reads them, from any blocks in any order."""

import io
import tempfile
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hdf5.running import Waves, blocks_read_by_h5py
from tests.hdf5.samples import Sample, samples
from tests.hdf5.truth import comparable, objects_of

SMALL_BLOCK_BYTES = 1024


@settings(
    max_examples=max(1, settings.default.max_examples // 4),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(samples, st.randoms(use_true_random=False))
def test_a_file_is_read_as_h5py_reads_it(sample: Sample, random: Random) -> None:
    """Objects, links, types, storage and attributes are h5py's; no block is missed; their order does not matter."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.h5"
        sample.write(path)
        truth, data = objects_of(path), path.read_bytes()
    whole = Waves(data)
    assert {start: comparable(found) for start, found in whole.structure.objects.items()} == truth
    assert whole.structure.unparsed == {}
    assert whole.structure.is_complete
    few = Waves(
        data,
        block_bytes=SMALL_BLOCK_BYTES,
        choose=lambda lacking: random.sample(sorted(lacking), min(2, len(lacking))),
    )
    assert few.structure.objects == whole.structure.objects
    assert few.structure.is_complete
    assert blocks_read_by_h5py(io.BytesIO(data), SMALL_BLOCK_BYTES) <= few.structure.blocks
