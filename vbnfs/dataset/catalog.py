"""A dataset: which versions exist (`release.py`), and how large and how old their objects are (`object_sizes.py`).

What is learned is stored below the cache directory and serves without network. Each load stores again what is known
and missing on the disk:

    datasets-v1/<endpoint or aws>/<bucket>/<project>/index           which manifests there are (release.py)
    datasets-v1/.../manifests/<file name>                            their copies (manifest_copies.py)
    datasets-v1/.../{attributes,heads}                               sizes and times (stored_sizes.py)
    datasets-v1/.../tables/<file_hash>                               large tables, parsed (access/kept_tables.py)
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from vbnfs.dataset.by_name import Unlisted
from vbnfs.dataset.contents import Contents, contents_of
from vbnfs.dataset.handed_on import HandedOn
from vbnfs.dataset.manifest import Manifest, Origin
from vbnfs.dataset.object_sizes import Listing, ObjectSizes
from vbnfs.dataset.release import Release, ReleaseReader
from vbnfs.dataset.stored_files import StoredFolder
from vbnfs.errors import DatasetError, StorageError, TransportError, VbnfsError, copy_error
from vbnfs.host.places import Place
from vbnfs.objects import ListedObject, ObjectClient

KEPT_FORMAT: Final = "datasets-v1"  # another format is stored in another folder
_AWAITED_SECONDS: Final = 5.0  # for the list of manifests, where a user waits for it and there is a stored one


class Catalog:
    """The dataset `project` of a bucket, by way of `client`; what is learned is stored in `directory`.

    `versions` are known by name, for a bucket that may be read and not listed (release.py).
    """

    def __init__(
        self,
        client: ObjectClient,
        directory: Path | Place,
        *,
        origin: Origin,
        project: str,
        versions: Sequence[str] = (),
    ) -> None:
        self.folder: Final = StoredFolder(directory)
        self.sizes: Final = ObjectSizes(client, self.folder, prefix=f"{project}/")
        self._client = client
        self._bucket = origin.bucket
        self._project = project
        self._releases = ReleaseReader(client, self.folder, origin=origin, project=project, versions=versions)
        self._listed: Sequence[ListedObject] = ()  # by the last load

    @property
    def published_index(self) -> ListedObject | None:
        """The structure index of the dataset, if the last list of manifests had one."""
        return self._releases.published_index

    def contents(self, manifests: Iterable[Manifest]) -> Contents:
        """The contents that entries of `manifests` name; those of the earlier ones take precedence."""
        return contents_of(manifests, bucket=self._bucket, attributes=self.sizes.of_object)

    async def load(self, *, max_age_seconds: float = 0.0, is_awaited: bool = False) -> Release:
        """Ask the bucket which versions there are; without network, return the stored ones (`is_offline`).

        So it is where the bucket may be read and not listed; then those are added that are known by name.
        A list of manifests that any process requested within `max_age_seconds` is not requested again; then only a
        connection is made, to learn whether the server can be reached. `is_awaited`: where a list is stored, a server
        that takes connections and says nothing counts as one without network soon. Raises a `StorageError` or
        `DatasetError` if there is no list, neither in the bucket nor stored.
        """
        index = await trio.to_thread.run_sync(self._releases.read_index)
        known = index.listed or self._listed
        unlisted, versions = None, None
        try:
            with _within(_AWAITED_SECONDS if is_awaited and known else math.inf):
                listed, versions = await self._list(known, is_fresh=index.is_fresh(max_age_seconds))
        except (StorageError, DatasetError) as error:
            unlisted = await self._releases.without_list(known, error)
            listed = [*known, *unlisted.named] if unlisted.named else known
            if not listed:
                raise _where_none_is_stored(unlisted) from error
        release = await self._releases.read(listed, unlisted)
        await self.sizes.update(release.manifests, versions, is_offline=release.is_offline)
        if listed is not index.listed:
            write = partial(self._releases.write_index, listed, is_list=unlisted is None)
            await trio.to_thread.run_sync(write)
        await self.sizes.restore()
        self._listed = listed
        return release

    def hand_on(self, manifests: Iterable[Manifest]) -> HandedOn:
        """What is known of the dataset, of which these are the manifests that `load` gave last."""
        shown = list(manifests)
        keys = {one.source.key for one in shown if one.source is not None}
        files = (file.version for one in shown for file in one.files)
        known = {version: found for version in files if (found := self.sizes.of_object(version)) is not None}
        listed = tuple(entry for entry in self._listed if entry.key in keys)
        return HandedOn(self._bucket, self._project, listed, known)

    def take_in(self, handed: HandedOn, manifests: Mapping[str, bytes]) -> None:
        """Store what is known elsewhere and not here; `manifests` has their bytes by their files' names.

        It is unproven: S3 is asked for all of it at the next chance. Writes the disk: call it from a thread.
        """
        self._releases.take_in(handed.manifests, manifests)
        self.sizes.take_in(handed.objects)

    async def _list(
        self, known: Sequence[ListedObject], *, is_fresh: bool
    ) -> tuple[Sequence[ListedObject], Listing | None]:
        """The manifests; and the object versions, where these were listed at the same time."""
        if known:
            await self._client.reach()  # fails after 3 s at most; a request would take longer
            return known if is_fresh else await self._releases.list_manifests(), None
        if await trio.to_thread.run_sync(self.sizes.have_any):
            return await self._releases.list_manifests(), None
        return await self._list_both()

    async def _list_both(self) -> tuple[Sequence[ListedObject], Listing]:
        """Manifests and object versions at the same time: at the first mount, each round trip is waited for."""
        manifests: list[ListedObject] = []
        failure: VbnfsError | None = None
        versions: list[Listing] = []

        async def list_versions() -> None:
            versions.append(await self.sizes.list_versions())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(list_versions)
            try:
                manifests += await self._releases.list_manifests()
            except VbnfsError as error:  # raised outside of the nursery, which would put it into a group
                failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return manifests, versions[0]


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise `TransportError` for what takes longer."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError as error:
        raise TransportError(f"the list of manifests has not come within {seconds:g} s") from error


def _where_none_is_stored(unlisted: Unlisted) -> StorageError | DatasetError:
    """The error of a load that has no stored list to return, and no manifest that is known by name."""
    error = unlisted.failure
    if not isinstance(error, StorageError):
        return error
    by_name = f" ({unlisted.problems[0]})" if unlisted.problems else ""
    return copy_error(error, f"{error}, and nothing is kept of the dataset{by_name}")
