"""The versions of an opened dataset: their manifests, and the sizes and contents of their files."""

from collections.abc import Iterable
from dataclasses import dataclass

import trio

from vbnfs.access.dataset import Dataset
from vbnfs.dataset.contents import Contents, NamedContent, in_order_of_publication
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.dataset.release import Release
from vbnfs.objects import Content


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that `release` has. `named` has the content of each of their files."""

    dataset: Dataset
    release: Release
    named: Contents

    @property
    def problems(self) -> list[str]:
        """What a user has to know, in words. That S3 was not asked is no problem where that was asked for."""
        is_news = self.release.doubt is not None and not self.dataset.config.offline
        doubt = [f"{self.release.doubt}; this is {self.release.basis}"] if is_news else []
        return [*doubt, *self.release.problems]

    def manifest(self, wanted: str | None) -> Manifest:
        """The manifest of a version (None: of the newest). Raises `DatasetError`, which names those there are."""
        version = self.release.choose(wanted)
        return next(m for m in self.release.manifests if m.dataset_version == version)

    def size_bytes(self, file: DataFile) -> int | None:
        """A file's size; None where S3 gave none."""
        attributes = self.dataset.catalog.sizes.get(self.named.of(file))
        return None if attributes is None else attributes.size_bytes

    def contents(self, files: Iterable[DataFile]) -> dict[str, Content | None]:
        """The different contents of files, by content id; None for one whose size is not known."""
        found: dict[str, Content | None] = {}
        for named in map(self.named.of, files):
            attributes = self.dataset.catalog.sizes.get(named)
            found[named.content_id] = None if attributes is None else named.with_attributes(attributes)
        return found

    async def learn_sizes(self, files: Iterable[DataFile]) -> None:
        """Ask for sizes that no listing has, one by one, if S3 can be asked."""
        if self.release.is_offline:
            return

        def unknown() -> list[NamedContent]:
            return [self.named.of(file) for file in files if self.size_bytes(file) is None]

        await self.dataset.catalog.sizes.fetch_all(await trio.to_thread.run_sync(unknown))


async def load_versions(dataset: Dataset, *, max_age_seconds: float = 0.0) -> Versions:
    """The versions that the bucket has, or those that are stored where it cannot be asked. Raises a `VbnfsError`.

    A stored list that is younger than `max_age_seconds` will do.
    """
    release = await dataset.catalog.load(max_age_seconds=max_age_seconds, is_awaited=True)
    return Versions(dataset, release, dataset.catalog.contents(in_order_of_publication(release.manifests)))
