"""Which sessions are here as they were released, without hashing anything: what was found before holds."""

from collections.abc import Collection, Mapping

from vbnfs.access.versions import Versions
from vbnfs.cache.whole_file import Seal
from vbnfs.dataset.kinds import kind_of
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.objects import Content
from vbnfs.reading.judged import is_good


class VerifiedSessions:
    """Looks for them. What was found good is so as long as its file stays as it is: that is not looked at again."""

    def __init__(self) -> None:
        self._good: dict[str, Seal] = {}  # by content id

    def of(self, versions: Versions, manifest: Manifest, session_ids: Collection[int]) -> set[int]:
        """Those of some sessions that have a whole file here, and whose whole files all have the manifest's hash.

        It was held against their bytes, and these are the same since. Reads the disk: call it from a thread.
        """
        found: dict[int, list[DataFile]] = {one: [] for one in session_ids}
        for file in manifest.files if found else ():
            session_id = kind_of(file.path).session_id
            if session_id in found:
                found[session_id].append(file)
        contents = {one: list(filter(None, versions.contents(files).values())) for one, files in found.items()}
        ids = {content.content_id for of_session in contents.values() for content in of_session}
        seals = versions.dataset.cache.whole_seals(ids) if ids else {}
        return {one for one, of_session in contents.items() if self._are_good(versions, of_session, seals)}

    def _are_good(self, versions: Versions, contents: Collection[Content], seals: Mapping[str, Seal]) -> bool:
        whole = [content for content in contents if content.content_id in seals]
        return bool(whole) and all(self._is_good(versions, one, seals[one.content_id]) for one in whole)

    def _is_good(self, versions: Versions, content: Content, seal: Seal) -> bool:
        cache, verdicts = versions.dataset.cache, versions.dataset.verdicts
        if verdicts.bad(content) is not None or seal.size_bytes != content.size_bytes:
            return False
        if self._good.get(content.content_id) == seal:
            return True
        found = is_good(cache, verdicts, content, seal)
        if found and not seal.settles_in_seconds:
            self._good[content.content_id] = seal
        return found
