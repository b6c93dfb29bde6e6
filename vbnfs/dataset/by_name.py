"""Manifests that are known by name, for a bucket that may be read and not listed: HEAD says what a listing would.

Many buckets and mirrors allow to get objects and not to list them (S3: GetObject without ListBucket), and a plain web
server lists nothing at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from vbnfs.dataset.object_sizes import UNREACHABLE
from vbnfs.errors import BusyError, DatasetError, StorageError, with_own_remedy
from vbnfs.objects import ListedObject, ObjectClient, ObjectVersion


@dataclass(frozen=True, slots=True)
class Unlisted:
    """What is known of the manifests without a list, `failure` being why there is none.

    `named` are those that are known by name alone; `problems` say why others cannot be had so.
    """

    failure: StorageError | DatasetError
    named: tuple[ListedObject, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def is_offline(self) -> bool:
        """Whether the server cannot be reached, for any request. One that is busy with listings may serve others."""
        return isinstance(self.failure, UNREACHABLE) and not isinstance(self.failure, BusyError)


class NamedManifests:
    """The manifests of `versions` below `prefix`: versions of the dataset, or whole file names of manifests."""

    def __init__(self, client: ObjectClient, *, prefix: str, project: str, versions: Sequence[str]) -> None:
        self._client = client
        self._keys = [prefix + manifest_name(project, version) for version in versions]

    async def ask(self, known: Sequence[ListedObject], failure: StorageError | DatasetError) -> Unlisted:
        """What there is besides what is `known`; nothing where `failure` is no refusal to list."""
        if isinstance(failure, DatasetError) or isinstance(failure, UNREACHABLE):  # noqa: SIM101 - types, and a tuple
            return Unlisted(failure)
        found: dict[str, ListedObject | str] = {}

        async def head(key: str) -> None:
            try:
                found[key] = ListedObject(key, await self._client.head(ObjectVersion(key, None)))
            except StorageError as error:
                found[key] = f"known by its name only, and not to be had: {with_own_remedy(error)}"

        known_keys = {entry.key for entry in known}
        async with trio.open_nursery() as nursery:
            for key in self._keys:
                if key not in known_keys:
                    nursery.start_soon(head, key)
        in_order = [found[key] for key in self._keys if key in found]
        named = tuple(one for one in in_order if isinstance(one, ListedObject))
        return Unlisted(failure, named, tuple(one for one in in_order if isinstance(one, str)))


def manifest_name(project: str, version: str) -> str:
    """The file name of the manifest of a version, as AllenSDK names them; a file name stays as it is."""
    return version if version.endswith(".json") else f"{project}_project_manifest_v{version}.json"
