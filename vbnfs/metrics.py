"""What is counted, in one table: the name of each counter, its unit, and its meaning.

The counters are plain integers of one object, which is passed to the code that counts. `vbnfs status --json` shows
them under these names.
"""

from dataclasses import asdict, dataclass, field


def _counter(unit: str, meaning: str) -> int:
    counter: int = field(default=0, metadata={"unit": unit, "meaning": meaning})
    return counter


@dataclass(slots=True)
class Metrics:
    """Counters of one mount since it was made.

    The event loop alone changes them, except those that are marked as counted in threads. Of two threads that add to
    a counter at the same moment, one addition can be lost.
    """

    list_requests: int = _counter("requests", "pages of ListObjectsV2 and ListObjectVersions")
    head_requests: int = _counter("requests", "HeadObject")
    object_requests: int = _counter("requests", "GetObject of whole (small) objects: manifests")
    range_requests: int = _counter("requests", "GetObject of a range of a data file")
    failed_requests: int = _counter("requests", "requests without the expected reply, retried ones included")
    hedged_requests: int = _counter("requests", "ranges that stalled and were requested again on another connection")
    received_bytes: int = _counter("bytes", "bodies of range requests that passed all checks")
    listed_bytes: int = _counter("bytes", "bodies of lists and of whole objects")
    limited_fetches: int = _counter("fetches", "fetches that --limit-rate held back before their request")
    read_requests: int = _counter("requests", "reads that the kernel requested")
    read_bytes: int = _counter("bytes", "bytes in the replies to these reads")
    fetched_reads: int = _counter("requests", "of these reads, those that waited for bytes from S3")
    walks: int = _counter("files", "HDF5 files whose structure was read ahead of a program")
    walked_blocks: int = _counter("blocks", "blocks that were requested for that")
    index_waves: int = _counter("files", "HDF5 files of which all structure that the index has was requested at once")
    indexed_blocks: int = _counter("blocks", "blocks that were requested for that")
    whole_blocks: int = _counter("blocks", "blocks read in small parts, that the kernel was then made to read whole")
    passthrough_opens: int = _counter(
        "opens", "opened files that the kernel reads by itself: no read reaches the mount"
    )
    checked_bytes: int = _counter(
        "bytes", "of whole files, read to check them before the kernel reads them; in threads"
    )
    failed_answers: int = _counter("requests", "kernel requests that were answered with an errno, and logged")
    corrupt_blocks: int = _counter("blocks", "cached blocks that did not match their checksum; counted in threads")
    kept_bytes: int = _counter("bytes", "blocks written to the cache; counted in threads")
    flushed_bytes: int = _counter("bytes", "of these, synced to the disk or evicted; counted in threads")
    cache_write_errors: int = _counter("blocks", "blocks that could not be written; counted in threads")
    verified_files: int = _counter("files", "complete files that were hashed and have the manifest's hash")
    mismatched_files: int = _counter("files", "complete files that were hashed and do not have the manifest's hash")
    wrong_blocks: int = _counter("blocks", "blocks that came with other bytes than their digests say; fetched again")
    mirror_blocks: int = _counter("blocks", "blocks that came from a mirror or a site cache")
    shared_blocks: int = _counter("blocks", "wanted blocks that another process on the same cache had just fetched")
    evicted_contents: int = _counter("contents", "contents deleted to keep within --cache-size; counted in threads")

    def snapshot(self) -> dict[str, int]:
        """The figures by name, as they are now."""
        return asdict(self)

    @property
    def requests(self) -> int:
        """All requests to S3."""
        return self.list_requests + self.head_requests + self.object_requests + self.range_requests
