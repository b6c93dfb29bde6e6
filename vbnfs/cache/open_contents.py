"""The contents that this process has open: each once, the latest used ones only, shown to other processes."""

import threading
from contextlib import suppress
from typing import Final

from cachetools import LRUCache

from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_places import ContentPlaces
from vbnfs.cache.holdings import Held, Holdings
from vbnfs.host import limits
from vbnfs.objects import Content

_MOST: Final = 128  # two files each, well below the usual limit of 1,024 files
_PART_OF_FILE_LIMIT: Final = 8  # where fewer files may be open: connections and mappings need some, too


class OpenContents:
    """Open contents of `places`, shown by `holdings`. Any thread may call; methods that open one raise `OSError`."""

    def __init__(self, places: ContentPlaces, holdings: Holdings | None = None) -> None:
        self._places = places
        self._holdings = holdings
        self._publishing = threading.Lock()
        self._lock = threading.Lock()  # of what follows; held for no system call
        self._open: LRUCache[str, ContentFile] = LRUCache(_most_open())  # by content id
        self._absent: set[str] = set()  # the contents of which nothing was here, since `forget_deleted`
        self._refused: set[str] = set()
        self._opened: dict[str, Content] = {}  # by a program, since uses were noted; by content id

    def known(self, content: Content) -> ContentFile | None:
        """A content that is open already."""
        with self._lock:
            is_refused = content.content_id in self._refused
            file = None if is_refused else self._open.get(content.content_id)
        return file if file is not None and file.data_bytes == content.size_bytes else None

    def get(self, content: Content) -> ContentFile | None:
        """A content, opened if it is here."""
        file = self.known(content)
        if file is None:
            file = None if content.content_id in self._refused else self._places.open(content)
            if file is None:
                self._absent.add(content.content_id)
            else:
                self._remember(content, file)
        return file

    def for_writing(self, content: Content) -> ContentFile:
        """A content to which blocks can be added: made if need be, and anew if it was deleted."""
        file = self.known(content)
        if file is None or not (file.is_intact and file.is_writable):
            file = self._places.open_or_create(content)
            self._remember(content, file)
        return file

    def refuse(self, content: Content) -> None:
        """Have `get` find nothing of a content any more."""
        with self._lock:
            self._refused.add(content.content_id)
            let_go = self._open.pop(content.content_id, None)
        del let_go

    def is_known_absent(self, content: Content) -> bool:
        """Whether nothing was here of a content when it was looked for last, and nothing was put since."""
        return content.content_id in self._absent

    def forget_deleted(self) -> None:
        """Close contents that were cut short, or evicted, by any process: only then is the space free."""
        with self._lock:
            known = list(self._open)
            self._absent = set()
        deleted = [content_id for content_id in known if self.forget_if_deleted(content_id)]
        if deleted:
            self.publish()

    def forget_if_deleted(self, content_id: str) -> bool:
        """Close a content if it was cut short or deleted; whether it was."""
        with self._lock:
            file = self._open.get(content_id)
        is_deleted = file is not None and not file.is_intact
        if is_deleted:
            with self._lock:
                if self._open.get(content_id) is file:
                    del self._open[content_id]
        return is_deleted

    def let_go_of(self, content: Content) -> None:
        """Close a content, unless a reader uses it just now."""
        with self._lock:
            let_go = self._open.pop(content.content_id, None)
        del let_go

    def let_go_of_all(self) -> None:
        """Close all that no reader uses."""
        with self._lock:
            let_go, self._open = self._open, LRUCache(self._open.maxsize)
        del let_go

    # Showing what is used and held

    def note_opened(self, content: Content) -> None:
        """Have the next `note_uses` count this as a use."""
        with self._lock:
            self._opened[content.content_id] = content

    def note_uses(self) -> None:
        """Note for eviction what was used lately."""
        with self._lock:
            opened, self._opened = self._opened, {}
        for content in opened.values():
            with suppress(OSError):
                if (file := self.get(content)) is not None:
                    file.mark_used()
        with self._lock:
            known = list(self._open.values())
        for file in known:
            file.note_use()

    def publish(self) -> None:
        """Show other processes which contents this one has open."""
        if self._holdings is None:
            return
        with self._publishing:
            with self._lock:
                known = list(self._open.values())
            held: list[Held] = []
            for file in known:
                with suppress(OSError):
                    held.append(file.held())
            self._holdings.publish(held)

    def _remember(self, content: Content, file: ContentFile) -> None:
        with self._lock:
            let_go = [self._open.pop(content.content_id, None)]
            while len(self._open) >= self._open.maxsize:
                let_go.append(self._open.popitem()[1])
            self._open[content.content_id] = file
            self._absent.discard(content.content_id)
        del let_go  # closing frees an evicted file's space, or asks another host: not under the lock


def _most_open() -> int:
    limit = limits.open_files()
    return _MOST if limit is None else max(1, min(_MOST, limit // _PART_OF_FILE_LIMIT))
