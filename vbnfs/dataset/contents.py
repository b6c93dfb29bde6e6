"""Which entries of manifests are one content, and from which objects it can be had (pure).

A manifest's `file_hash` is unproven until all bytes were hashed. Until all bytes are cached, entries with
one hash share their blocks, and are sources of one content, unless something contradicts that they are the same:

- the objects have different sizes, or different ETags that are MD5s. The ETag of an object that was uploaded in one
  part is its MD5 (S3 User Guide, "Checking object integrity");
- manifests give an object two hashes, so one of the two entries is wrong;
- an object has no version id of its own, so its bytes may be replaced at any time.

Entries are taken in the order in which their manifests were published. An entry that contradicts an earlier one
becomes a content of its own. So a wrong entry can harm its own dataset version, and no earlier one.

What is cached of a content outlives the manifests that named it: a manifest may be withdrawn, or uploaded again and
so become a later one. Therefore the content id depends on the first source, too, and not on the hash alone. Bytes
from an object that a wrong entry named, and verdicts on them, are never used for another object's bytes.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.objects import Content, ObjectAttributes, ObjectVersion, may_have_size

AttributesOf = Callable[[ObjectVersion], ObjectAttributes | None]

_MD5: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class NamedContent:
    """A content whose size is not known yet: its id, the objects that should hold it, the hash that it should have.

    A source whose bytes may be replaced is bound to its listed `etag`. If none was listed, the ETag that HEAD returns
    binds the source, and becomes part of the content id.
    """

    content_id: str
    sources: tuple[ObjectVersion, ...]
    file_hash: str | None = None
    etag: str | None = None

    def with_attributes(self, attributes: ObjectAttributes) -> Content:
        """The content with its size. This is the only place where a `Content` is made."""
        content_id, (source, *others) = self.content_id, self.sources
        if not source.is_immutable:
            etag = self.etag or attributes.etag or None
            source = replace(source, etag=etag)
            if etag is not None and not self.etag:
                content_id = _id(content_id, etag)
        return Content(content_id, attributes.size_bytes, source, self.file_hash, tuple(others))


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of some manifests, and a message for each entry that contradicts another one."""

    by_entry: Mapping[tuple[ObjectVersion, str | None], NamedContent]
    contradictions: tuple[str, ...]

    def of(self, file: DataFile) -> NamedContent:
        """The content that an entry of one of these manifests names."""
        return self.by_entry[file.version, file.file_hash]


def in_order_of_publication(manifests: Iterable[Manifest]) -> list[Manifest]:
    """The manifests by time; by version, if they were published in the same second."""
    return sorted(manifests, key=lambda manifest: (manifest.modified_ns, manifest.dataset_version))


def contents_of(manifests: Iterable[Manifest], *, bucket: str, attributes: AttributesOf) -> Contents:
    """The contents of `manifests`. Entries of earlier ones take precedence over entries of later ones.

    `attributes` returns size and ETag of an object, if they are known.
    """
    grouping = _Grouping(bucket, attributes)
    for manifest in manifests:
        grouping.add(manifest)
    by_entry = {entry: group.named() for entry, group in grouping.by_entry.items()}
    return Contents(by_entry, tuple(grouping.contradictions))


@dataclass(slots=True)
class _Group:
    """A content while its sources are being found."""

    content_id: str
    file_hash: str | None
    etag: str | None
    known: ObjectAttributes | None  # of the first source whose attributes are known
    etags: set[str] = field(default_factory=set)  # those that are an MD5: at most one
    sources: list[ObjectVersion] = field(default_factory=list)
    made: NamedContent | None = None

    def named(self) -> NamedContent:
        """The content; one object for all its entries."""
        if self.made is None:
            self.made = NamedContent(self.content_id, tuple(self.sources), self.file_hash, self.etag)
        return self.made

    def contradiction(self, known: ObjectAttributes | None) -> str | None:
        """Why an object with these attributes cannot hold the same bytes; None if it can."""
        if known is None:
            return None
        if self.known is not None and self.known.size_bytes != known.size_bytes:
            return f"{known.size_bytes:,} bytes, not {self.known.size_bytes:,}"
        if self.etags and (_md5s(known) - self.etags):
            return "another MD5 (ETag)"
        return None

    def add(self, source: ObjectVersion, known: ObjectAttributes | None) -> None:
        self.sources.append(source)
        self.known = self.known or known
        self.etags |= _md5s(known)


class _Grouping:
    """The contents of the manifests that were added so far."""

    def __init__(self, bucket: str, attributes: AttributesOf) -> None:
        self.by_entry: dict[tuple[ObjectVersion, str | None], _Group] = {}
        self.contradictions: list[str] = []
        self._bucket = bucket
        self._attributes = attributes
        self._by_hash: dict[str, list[_Group]] = {}
        self._hash_of: dict[ObjectVersion, str] = {}  # the first one in any manifest
        self._disputed: set[ObjectVersion] = set()  # manifests give it two hashes

    def add(self, manifest: Manifest) -> None:
        new = [file for file in manifest.files if (file.version, file.file_hash) not in self.by_entry]
        for file in new:
            file_hash = file.file_hash
            if file_hash is not None and file_hash != self._hash_of.setdefault(file.version, file_hash):
                self._disputed.add(file.version)
                self._report(manifest, file, f"{file.version} has another file_hash elsewhere")
        for file in new:
            if (file.version, file.file_hash) not in self.by_entry:
                self.by_entry[file.version, file.file_hash] = self._place(manifest, file)

    def _place(self, manifest: Manifest, file: DataFile) -> _Group:
        known = self._attributes(file.version)
        if known is not None and not may_have_size(file.file_hash, known.size_bytes):
            known = None  # the listing is wrong, or the manifest: that contradicts no other entry
        groups = [] if file.file_hash is None else self._by_hash.setdefault(file.file_hash, [])
        group = self._joined(manifest, file, groups, known)
        if group is None:
            group = self._new_group(file, known)
            groups.append(group)
        group.add(file.version, known)
        return group

    def _joined(
        self, manifest: Manifest, file: DataFile, groups: Iterable[_Group], known: ObjectAttributes | None
    ) -> _Group | None:
        """The first content that this entry can join."""
        if not self._can_share(file.version):
            return None
        reason = None
        for group in groups:
            if not all(map(self._can_share, group.sources)):
                continue
            if (contradiction := group.contradiction(known)) is None:
                return group
            reason = reason or f"{contradiction}, unlike {group.sources[0]}, which has the same file_hash"
        if reason is not None:
            self._report(manifest, file, reason)
        return None

    def _can_share(self, version: ObjectVersion) -> bool:
        return version.is_immutable and version not in self._disputed

    def _new_group(self, file: DataFile, known: ObjectAttributes | None) -> _Group:
        version, file_hash = file.version, file.file_hash
        names = (self._bucket, version.key, version.version_id or "", file_hash or "")
        if version.is_immutable:
            etag = None
            content_id = file.content_id(self._bucket) if file_hash is None else _id("entry", *names)
        else:  # if its bytes are replaced, they are another content
            etag = (None if known is None else known.etag) or None
            content_id = _id("bound", *names) if etag is None else _id(_id("bound", *names), etag)
        return _Group(content_id, file_hash, etag, known)

    def _report(self, manifest: Manifest, file: DataFile, reason: str) -> None:
        place = f"{manifest.file_name}: {'/'.join(file.path)!r}"
        self.contradictions.append(f"{place}: {reason}; one of the two is wrong")


def _id(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=20).hexdigest()


def _md5s(known: ObjectAttributes | None) -> set[str]:
    """The MD5 of an object's bytes, where its ETag is one."""
    etag = "" if known is None else (known.etag or "")
    return {etag} if _MD5.fullmatch(etag) else set()
