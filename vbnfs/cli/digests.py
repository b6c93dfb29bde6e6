"""What `vbnfs digests` hands on: digests of files' blocks (docs/digests.md)."""

from typing import Final

from vbnfs.cache.digests import DigestSet, DigestStore, read_set
from vbnfs.cli.sets import Ware
from vbnfs.errors import DigestsError

DIGESTS: Final[Ware[DigestSet]] = Ware(
    name="digests",
    command="vbnfs digests",
    made_by="vbnfs verify --fetch",
    contradicted="the cache that it was made from has other bytes",
    error=DigestsError,
    store_of=DigestStore,
    read_set=read_set,
)
