"""Prefetching, verifying and analysing on a Dask cluster: docs/dask.md is its guide.

The functions need Dask's `distributed` (the extra `dask`), here and in the environment of the workers. Importing this
imports it not.
"""

from vbnfs.dask.cluster import OnCluster as OnCluster
from vbnfs.dask.files import prefetch as prefetch
from vbnfs.dask.files import verify as verify
from vbnfs.dask.results import Format as Format
from vbnfs.dask.results import Results as Results
from vbnfs.dask.results import read_results as read_results
from vbnfs.dask.sessions import Sessions as Sessions
from vbnfs.dask.sessions import map_sessions as map_sessions

__all__ = ["Format", "OnCluster", "Results", "Sessions", "map_sessions", "prefetch", "read_results", "verify"]
