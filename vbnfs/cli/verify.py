"""What `vbnfs verify` does: files, folders or versions against the manifests' hashes, in a process of its own.

It works on the cache directory, which mounts share: whether something is mounted makes no difference, but for
paths in a mount, which tell the dataset by themselves. Mounts learn of what is found out within a few seconds.
"""

import os
import posixpath
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from vbnfs.config import Config
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.contents import in_order_of_publication
from vbnfs.dataset.names import decode
from vbnfs.dataset.tree import DataNode, Directory, Node, Symlink, Tree, build_tree
from vbnfs.errors import DatasetError, MountError, StorageError, the_reason
from vbnfs.metrics import Metrics
from vbnfs.mount.background import prepare_cache_directory
from vbnfs.mount.clients import fetching, make_cache, make_catalog, make_client, scope_of
from vbnfs.mount.mountpoint import MountEntry, absolute, list_mounts
from vbnfs.mount.status import ask_status
from vbnfs.reading.verification import Verifier
from vbnfs.storage.block_cache import FORMAT
from vbnfs.storage.breaker import BreakerClient
from vbnfs.storage.eviction import kept_size
from vbnfs.storage.private import keep_others_out
from vbnfs.storage.verdicts import Verdicts, is_good, mismatch_text

GOOD: Final = "good"
MISMATCH: Final = "mismatch"
INCOMPLETE: Final = "not complete"
NO_HASH: Final = "no hash"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one file. `outcome` is one of the words above, `detail` the reason where there is one."""

    path: str
    outcome: str
    size_bytes: int | None
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding with its fields' names."""
        return asdict(self)


def of_mount(config: Config, paths: Sequence[Path]) -> tuple[Config, list[str]]:
    """The settings of the mount in which `paths` lie, and the paths in it; all as they are where there is no mount.

    Raises `MountError` for paths in different mounts, `DatasetError` for one that cannot be in the dataset.
    """
    mounts = list_mounts()
    within = [_within_mount(path, mounts) for path in paths]
    entries = {entry for entry, _ in within}
    if len(entries) > 1:
        raise MountError("paths in different mounts, or not all of them in a mount: verify them one after the other")
    entry = entries.pop() if entries else None
    if entry is None:
        for path in paths:
            _check_is_of_dataset(path)
        return config, [decode(os.fsencode(path)) for path in paths]
    told = ask_status(entry)
    for path in paths:
        if not os.path.lexists(path):
            there = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
            raise DatasetError(f"{path}: no such file or folder; 'ls {there}' lists those that there are")
    return _settings_of(told, config), [inner for _, inner in within]


def _settings_of(told: Mapping[str, Any], config: Config) -> Config:
    """The settings with which a mount reads; `told` is its status."""
    cache_dir, ca_bundle = Path(told["cache_dir"]), told["ca_bundle"]
    return replace(
        config,
        **{name: told[name] for name in ("bucket", "project", "endpoint_url", "region")},
        ca_bundle=None if ca_bundle is None else Path(ca_bundle),
        cache_dir=cache_dir,
        # Another mount may have been told more since this one looked.
        cache_size_bytes=max(told["cache_size_bytes"], kept_size(cache_dir / FORMAT, 0)),
        dataset_version=told["default_version"],
    )


def _within_mount(path: Path, mounts: Iterable[MountEntry]) -> tuple[MountEntry | None, str]:
    where = absolute(path)
    for entry in mounts:
        if where.is_relative_to(entry.mountpoint):
            return entry, decode(os.fsencode(where.relative_to(entry.mountpoint)))
    return None, decode(os.fsencode(path))


def _check_is_of_dataset(path: Path) -> None:
    """Of what is not in a mount, only a path below the dataset's own root can be looked for. Asks nobody."""
    if path.is_absolute() or ".." in path.parts:
        raise DatasetError(
            f"{path}: not in a vbnfs mount ('vbnfs status' lists those that there are); name a path in one, or in the"
            " dataset without a slash before it, or a dataset version"
        )


def run(config: Config, paths: Sequence[str], *, fetch: bool, tell: Callable[[Finding], None]) -> list[Finding]:
    """See `verify`."""
    try:
        work = partial(verify, config, paths, fetch=fetch, tell=tell)
        return trio.run(work, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as group:
        raise the_reason(group) from None


async def verify(
    config: Config, paths: Sequence[str], *, fetch: bool, tell: Callable[[Finding], None]
) -> list[Finding]:
    """Verify the files at `paths` of the tree (or all of a version, by its name); without any, all that is complete.

    Raises a `StorageError` if it cannot be found out what there is, `DatasetError` for a path that is not there.
    """
    keep_others_out()
    prepare_cache_directory(config.cache_dir)
    metrics, findings = Metrics(), list[Finding]()
    async with make_client(config, metrics) as link:
        catalog = make_catalog(config, link)
        release = await catalog.load()
        default = release.choose(config.dataset_version)
        contents = catalog.contents(in_order_of_publication(release.manifests))
        tree = build_tree(release.manifests, contents=contents, default_version=default, readme=b"")
        chosen = list(_chosen(tree, paths))
        async with _verifying(config, link, metrics) as (verifier, verdicts):
            for path, node in chosen:
                finding = await _finding(path, node, catalog, verifier, verdicts, fetch=fetch)
                if paths or finding.outcome not in {INCOMPLETE, NO_HASH}:
                    findings.append(finding)
                    tell(finding)
    return findings


@asynccontextmanager
async def _verifying(
    config: Config, link: BreakerClient, metrics: Metrics
) -> AsyncIterator[tuple[Verifier, Verdicts]]:
    """What a mount has between its files and S3."""
    cache = make_cache(config, metrics)
    verdicts = Verdicts(config.cache_dir, scope=scope_of(config.endpoint_url))
    await trio.to_thread.run_sync(verdicts.refresh)
    async with fetching(config, link, cache, verdicts, metrics) as (source, _):
        yield Verifier(cache, source, verdicts, metrics=metrics, is_hasty=True), verdicts


async def _finding(
    path: str, node: DataNode, catalog: Catalog, verifier: Verifier, verdicts: Verdicts, *, fetch: bool
) -> Finding:
    try:
        content = node.content.with_attributes(await catalog.learn(node.content))
    except StorageError as error:
        return Finding(path, FAILED, None, str(error))
    size_bytes = content.size_bytes
    if content.file_hash is None:
        return Finding(path, NO_HASH, size_bytes, "the manifest has no hash of it")
    try:
        verdict = await verifier.verify(content, fetch=fetch)
        for _ in content.sources:  # what was cached may have been to blame, or one of the sources
            if fetch and verdict is not None and not is_good(content, verdict):
                verdict = await verifier.verify(content, fetch=True)
    except StorageError as error:
        return Finding(path, FAILED, size_bytes, str(error))
    if verdict is not None and is_good(content, verdict):
        return Finding(path, GOOD, size_bytes)
    bad = verdicts.bad(content)
    if bad is not None:
        return Finding(path, MISMATCH, size_bytes, mismatch_text(content, bad))
    return Finding(path, INCOMPLETE, size_bytes, "--fetch fetches what is missing")


def _chosen(tree: Tree, paths: Sequence[str]) -> Iterator[tuple[str, DataNode]]:
    """The different files below the paths, each once, under the name by which it was met first."""
    seen: set[int] = set()
    for path in paths or ["manifests"]:
        for name, node in _below(path, _node_at(tree, path), tree):
            if node.inode not in seen:
                seen.add(node.inode)
                yield name, node


def _below(path: str, node: Node, tree: Tree) -> Iterator[tuple[str, DataNode]]:
    if isinstance(node, DataNode):
        yield path, node
    elif isinstance(node, Directory):
        for name, inode in node.children.items():
            inner = name if path == "." else f"{path}/{name}"
            yield from _below(inner, tree.nodes[inode], tree)


def _node_at(tree: Tree, path: str) -> Node:
    """The node at a path below the root, or the folder of the dataset version that is named so."""
    for parts in (_parts(path), ["manifests", f"v{path.removeprefix('v')}"]):
        node = _walk(tree, parts)
        if node is not None:
            return node
    raise DatasetError(f"{path}: not in the dataset; name a path in it or in a mount, or a dataset version")


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _walk(tree: Tree, parts: Sequence[str]) -> Node | None:
    node: Node = tree.nodes[1]
    for number, part in enumerate(parts):
        if not isinstance(node, Directory) or (inode := node.children.get(part)) is None:
            return None
        node = tree.nodes[inode]
        if isinstance(node, Symlink):
            if node.target is None:  # each user's own, and no file of the dataset
                return None
            place = posixpath.normpath("/".join([*parts[:number], node.target, *parts[number + 1 :]]))
            return _walk(tree, _parts(place))
    return node


def check(findings: Sequence[Finding]) -> None:
    """Raise `MountError` unless all that was asked for is good."""
    bad = [finding for finding in findings if finding.outcome not in {GOOD, NO_HASH}]
    if bad:
        raise MountError(f"{len(bad)} of {len(findings)} files not verified")
