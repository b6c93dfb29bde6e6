"""What control groups allow, in both versions and in containers."""

from pathlib import Path

from vbnfs.host.cgroup import memory_limit_bytes


def limit(tmp_path: Path, proc: str, files: dict[str, str]) -> int | None:
    (tmp_path / "cgroup").write_text(proc)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return memory_limit_bytes(proc=tmp_path / "cgroup", mounted=tmp_path / "fs")


def test_version_2_and_the_groups_above(tmp_path: Path) -> None:
    """The strictest of all groups above holds; `max` is no limit."""
    files = {"a/memory.max": "1000\n", "a/b/memory.max": "max\n"}
    assert limit(tmp_path, "0::/a/b\n", files) == 1000


def test_version_1(tmp_path: Path) -> None:
    """A path that cannot be seen from a container leaves what can be seen."""
    files = {"memory/memory.limit_in_bytes": "5000\n"}
    assert limit(tmp_path, "4:memory:/docker/123\n3:cpu:/\n", files) == 5000


def test_no_limit(tmp_path: Path) -> None:
    """Without groups, and with version 1's number for no limit, there is none."""
    assert limit(tmp_path, "4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}) is None
    assert memory_limit_bytes(proc=tmp_path / "nothing", mounted=tmp_path) is None
