"""Where the contents of a scope stand, and how one goes from `partial` to `whole` and back: see block_cache.py.

Methods may be called from any thread, and raise `OSError`.
"""

import os
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_folder import DATA, KINDS, PARTIAL, WHOLE, flush_files, move_folder, remove_folder
from vbnfs.cache.records import recorded_bytes
from vbnfs.cache.whole_file import Seal
from vbnfs.host.folders import Folder
from vbnfs.host.places import Place
from vbnfs.objects import Content


class ContentPlaces:
    """The contents below `scope`, the folder of what one server sent.

    Without `may_map` bytes are copied out of files; without `may_write` nothing is changed.
    """

    def __init__(self, scope: Place, *, may_map: bool, may_write: bool = True) -> None:
        self._scope = scope
        self._may_map = may_map
        self._may_write: Final = may_write

    def of(self, content_id: str, kind: str) -> Place:
        """The folder of a content among the whole or the partial ones, whether it is there or not."""
        return self._scope / kind / content_id[:2] / content_id

    # By one look at the folders; empty where there are none

    def names(self, kind: str) -> set[str]:
        """The ids of all whole or all partial contents."""
        return {name for _, name in self._walk(kind)}

    def recorded_bytes(self, sizes: Mapping[str, int]) -> dict[str, int | None]:
        """How many bytes are here of those partial contents whose sizes are given, by their ids.

        None for one that the disk does not say it of. Costs as much as is here; no content is opened but for this.
        """
        found = dict[str, int | None]()
        for above, name in self._walk(PARTIAL):
            if (size_bytes := sizes.get(name)) is not None:
                found[name] = None
                with suppress(OSError):
                    found[name] = recorded_bytes(above, name, size_bytes, owners=self._scope.owners)
        return found

    def whole_seals(self, content_ids: Set[str]) -> dict[str, Seal]:
        """The seals of the files of some contents, as far as they are whole, by their ids."""
        found = dict[str, Seal]()
        for above, name in self._walk(WHOLE):
            if name in content_ids:
                with suppress(OSError):  # evicted meanwhile
                    found[name] = Seal.of_status(above.stat(f"{name}/{DATA}"))
        return found

    def _walk(self, kind: str) -> Iterator[tuple[Folder, str]]:
        """The folders that contents of a kind are in, each while it is open, and the contents' ids."""
        for parts, above, entries in (self._scope / kind).walk(depth=1):
            yield from ((above, entry.name) for entry in entries if parts and entry.name[0] != ".")

    # One content

    def open(self, content: Content) -> ContentFile | None:
        """What is here of a content. One that is moved while it is looked for is there at the second look."""
        for kind in (*KINDS, *KINDS):
            if (file := self._open_at(content, self.of(content.content_id, kind))) is not None:
                return file
        return None

    def open_or_create(self, content: Content) -> ContentFile:
        """What is here of a content, made if need be."""
        if (file := self.open(content)) is not None:
            return file
        place = self.of(content.content_id, PARTIAL)
        file = ContentFile.create(
            place, identity=content.content_id, data_bytes=content.size_bytes, may_map=self._may_map
        )
        file.begin_history(self._scope)
        return file

    def open_whole(self, content: Content) -> int | None:
        """A descriptor of a whole content's file, to be read only, which the caller closes; None if there is none."""
        place = self.of(content.content_id, WHOLE) / DATA
        try:
            descriptor = place.open(os.O_RDONLY)
        except FileNotFoundError:
            return None
        if os.fstat(descriptor).st_size == content.size_bytes:
            return descriptor
        os.close(descriptor)
        return None

    def open_whole_at_once(self, content: Content) -> int | None:
        """Like `open_whole`, if the disk need not be asked: None where it would. The length is not compared."""
        return (self.of(content.content_id, WHOLE) / DATA).open_at_once()

    def whole_path(self, content: Content) -> Path:
        """Where a whole content's file stands, if there is one."""
        return (self.of(content.content_id, WHOLE) / DATA).path

    def is_whole(self, content: Content) -> bool:
        """Whether a content stands among the whole ones, with both of its files at their lengths."""
        return self._open_at(content, self.of(content.content_id, WHOLE)) is not None

    def promote(self, content: Content) -> None:
        """Sync a content, and give it its place among the whole ones. One that is there stays, and this one goes.

        What another process has begun anew since it was looked at lacks blocks: that goes back.
        """
        name, whole = content.content_id, self.of(content.content_id, WHOLE)
        flush_files(self.of(name, PARTIAL))
        with self.of(name, PARTIAL).parent.opened() as above, whole.parent.opened(make=True) as to:
            if not move_folder(above, name, to, name):
                if self.is_whole(content):  # another process was first
                    remove_folder(above, name)
                else:
                    remove_folder(to, name)
                    move_folder(above, name, to, name)
            to.sync()
        if (file := self._open_at(content, whole)) is not None and None in file.records():
            self.demote(content)

    def demote(self, content: Content) -> None:
        """Give a content, if it is among the whole ones, its place among the partial ones; another one there goes."""
        name = content.content_id
        if not self._may_write:
            return
        with suppress(FileNotFoundError), self.of(name, WHOLE).parent.opened() as above:
            above.stat(name)
            with self.of(name, PARTIAL).parent.opened(make=True) as to:
                remove_folder(to, name)
                move_folder(above, name, to, name)

    def remove(self, content: Content) -> None:
        """Delete all that is here of a content. What cannot be deleted stays."""
        for kind in KINDS:
            with suppress(OSError):
                place = self.of(content.content_id, kind)
                with place.parent.opened() as above:
                    remove_folder(above, place.name)

    def flush(self, content_id: str) -> None:
        """Have the disk take what was written of a content. What is not here, or cannot be synced, is no error."""
        for kind in KINDS:
            with suppress(OSError):
                flush_files(self.of(content_id, kind))

    def _open_at(self, content: Content, place: Place) -> ContentFile | None:
        return ContentFile.open(
            place,
            identity=content.content_id,
            data_bytes=content.size_bytes,
            may_map=self._may_map,
            may_write=self._may_write,
        )
