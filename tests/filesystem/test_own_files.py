"""Where each user's own file is: the choice, and what it looks at."""

import os
import pwd
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
import trio

from vbnfs.filesystem.own_files import NOWHERE, OwnFiles, choose_folder, home_of, is_safe

HOME, CACHE, RUNTIME = Path("/home/me"), Path("/home/me/.cache"), Path("/run/user/1")


def own_files(place: Path, *names: str, for_others: Path | None = None) -> OwnFiles:
    """Those of a mount whose cache directory is `place`."""
    return OwnFiles(place / "allensdk", names, for_others=for_others)


def among(*folders: Path) -> Callable[[Path], bool]:
    """A look at a disk that has these folders only."""
    return folders.__contains__


@pytest.mark.parametrize(
    ("home", "there", "folder"),
    [
        (HOME, (HOME, CACHE, RUNTIME), CACHE),
        (HOME, (HOME, RUNTIME), HOME),
        (HOME, (CACHE, RUNTIME), RUNTIME),
        (None, (HOME, RUNTIME), RUNTIME),
        (HOME, (), None),
        (None, (), None),
    ],
)
def test_the_first_safe_folder_is_taken(home: Path | None, there: tuple[Path, ...], folder: Path | None) -> None:
    """Of a safe home the cache or the home itself; else /run/user; else there is none."""
    assert choose_folder(home, RUNTIME, among(*there)) == folder


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o700, True), (0o755, True), (0o770, False), (0o777, False), (0o1777, False)]
)
def test_a_folder_that_others_can_write_is_not_safe(mode: int, expected: bool, tmp_path: Path) -> None:
    """Others could put a link there that leads to a file of the user's; a sticky bit does not keep them from it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    assert is_safe(folder, os.geteuid()) == expected


def test_another_users_folder_is_not_safe(tmp_path: Path) -> None:
    """The owner of a folder can put something in it, whatever its mode; files and absent folders are none."""
    tmp_path.chmod(0o755)
    assert not is_safe(tmp_path, os.geteuid() + 1)
    (tmp_path / "file").touch()
    assert not is_safe(tmp_path / "file", os.geteuid())
    assert not is_safe(tmp_path / "absent", os.geteuid())


def test_a_link_in_the_cache_is_no_folder_of_ours(tmp_path: Path) -> None:
    """A link in place of the folder in the cache is not followed, wherever it leads; a home may be behind one."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "allensdk").symlink_to(tmp_path / "elsewhere")
    assert not own_files(tmp_path).place_for(os.geteuid()).startswith(str(tmp_path))
    assert is_safe(tmp_path / "allensdk", os.geteuid())


def test_a_link_among_the_folders_for_others_is_none(tmp_path: Path) -> None:
    """Neither the folder in which root makes folders for others, nor one of these, may be a link."""
    uid = unknown_uid()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "others").symlink_to(tmp_path / "elsewhere")
    assert own_files(tmp_path, for_others=tmp_path / "others").place_for(uid) == NOWHERE
    assert os.listdir(tmp_path / "elsewhere") == []
    (tmp_path / "others").unlink()
    (tmp_path / "others").mkdir(mode=0o755)
    (tmp_path / "others" / str(uid)).symlink_to(tmp_path / "elsewhere")
    if os.geteuid() == 0:
        os.chown(tmp_path / "elsewhere", uid, -1)  # whose folder it leads to makes no difference
    assert own_files(tmp_path, for_others=tmp_path / "others").place_for(uid) == NOWHERE


def test_homes_are_those_of_the_password_database() -> None:
    """The environment plays no part: it is that of the mount's owner. Who is not in the database has no home."""
    known = pwd.getpwuid(os.getuid())
    assert home_of(known.pw_uid) == Path(known.pw_dir)
    for uid in (unknown_uid(), 1 << 40):
        assert home_of(uid) is None


def test_our_own_folder_is_made(tmp_path: Path) -> None:
    """The owner of the mount has a place in the cache directory at once, for nobody else to look into."""
    place = Path(own_files(tmp_path).place_for(os.geteuid()))
    assert place.parent == tmp_path / "allensdk"
    assert place.parent.stat().st_mode & 0o777 == 0o700
    assert not place.exists()
    assert own_files(tmp_path).place_for(os.geteuid()) == str(place)


def test_mounts_have_files_of_their_own(tmp_path: Path) -> None:
    """What differs in any name, and be it where one ends, is another file."""
    names = [["a", "b"], ["ab", ""], ["", "ab"], ["a", "c"]]
    assert len({own_files(tmp_path, *n).place_for(os.geteuid()) for n in names}) == len(names)


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    """Then the owner is treated as others are; the mount is made all the same."""
    (tmp_path / "file").touch()
    with structlog.testing.capture_logs() as logs:
        files = OwnFiles(tmp_path / "file" / "allensdk", ["a"], for_others=None)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert not files.place_for(os.geteuid()).startswith(str(tmp_path))


async def test_threads_have_drafts_beside_it(tmp_path: Path) -> None:
    """A thread that can be seen has a draft beside the file; one of another namespace has the file itself."""
    files, uid = own_files(tmp_path), os.geteuid()
    place = Path(files.place_for(uid))
    drafts = {Path(await files.path_for(uid, thread)) for thread in (os.getpid(), os.getppid())}
    assert len(drafts) == 2
    assert place not in drafts
    assert {draft.parent for draft in drafts} == {place.parent}
    assert await files.path_for(uid, 0) == str(place)


async def test_other_users_have_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is not root's makes no drafts in the folders of other users, who have the file itself."""
    other = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: other + 1)
    files = own_files(tmp_path)
    assert await files.path_for(other, os.getpid()) == files.place_for(other)


async def test_a_disk_that_hangs_holds_up_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each user who waits for a disk takes one thread, however often they ask, and nobody else's turn.

    A request that is given up leaves its thread there, and the next one of that user waits for it.
    """
    files, answers, asked = own_files(tmp_path), threading.Event(), list[int]()
    hanging = range(10_000, 10_050)

    def home(uid: int) -> Path | None:
        asked.append(uid)
        if uid in hanging:
            answers.wait(60)
        return None

    monkeypatch.setattr("vbnfs.filesystem.own_files.home_of", home)
    async with trio.open_nursery() as waiting:
        for uid in [*hanging] * 3:
            waiting.start_soon(files.path_for, uid, os.getpid())
        try:
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(0) as given_up:
                await files.path_for(hanging[0], os.getpid())
            assert given_up.cancelled_caught
            with trio.fail_after(20):
                assert await files.path_for(9_999, os.getpid()) == NOWHERE
                while len(asked) < 1 + len(hanging):  # noqa: ASYNC110 - a started thread may not have begun
                    await trio.sleep(0.01)
            assert sorted(asked) == [9_999, *hanging]
            waiting.cancel_scope.cancel()
        finally:
            answers.set()
    with trio.fail_after(20):
        assert await files.path_for(hanging[0], os.getpid()) == NOWHERE


@pytest.mark.root
async def test_drafts_belong_to_the_user(tmp_path: Path) -> None:
    """What root makes in a user's folder is the user's: they can write it."""
    uid = unknown_uid()
    files = own_files(tmp_path, for_others=tmp_path / "others")
    Path(files.place_for(uid)).write_text("some text")
    draft = Path(await files.path_for(uid, os.getpid()))
    assert (draft.read_text(), draft.stat().st_uid, draft.stat().st_mode & 0o777) == ("some text", uid, 0o600)


def unknown_uid() -> int:
    """A user whom this machine does not know."""
    return max(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid < 65534) + 1000


def test_who_has_no_folder_writes_nowhere(tmp_path: Path) -> None:
    """Without a home and a place in /run a user's file is /dev/null, unless folders are made for such."""
    assert own_files(tmp_path).place_for(unknown_uid()) == NOWHERE


def test_root_makes_folders_for_others(tmp_path: Path) -> None:
    """A user without a folder gets one below root's, for them alone; only root can give one away."""
    folder = tmp_path / "others"
    uid = unknown_uid()
    files = own_files(tmp_path, for_others=folder)
    with structlog.testing.capture_logs() as logs:
        places = [files.place_for(uid), files.place_for(uid)]
    if os.geteuid() != 0:
        assert places == [NOWHERE] * 2
        assert logs
        return
    assert places[0] == places[1]
    assert Path(places[0]).parent == folder / str(uid)
    status = (folder / str(uid)).stat()
    assert (status.st_uid, status.st_mode & 0o777) == (uid, 0o700)
    assert folder.stat().st_mode & 0o777 == 0o755


def test_no_folder_is_made_where_others_can_write(tmp_path: Path) -> None:
    """If others can put something beside the folders that are made, none is made."""
    (tmp_path / "others").mkdir()
    (tmp_path / "others").chmod(0o777)
    assert own_files(tmp_path, for_others=tmp_path / "others").place_for(unknown_uid()) == NOWHERE
    assert os.listdir(tmp_path / "others") == []


def test_no_folder_can_be_made(tmp_path: Path) -> None:
    """Where folders for others cannot be made, it is a warning, and their file is nowhere."""
    (tmp_path / "file").touch()
    files = own_files(tmp_path, for_others=tmp_path / "file" / "others")
    with structlog.testing.capture_logs() as logs:
        assert files.place_for(unknown_uid()) == NOWHERE
    assert [entry["log_level"] for entry in logs] == ["warning"]


@pytest.mark.root
def test_folders_of_which_the_making_was_interrupted(tmp_path: Path) -> None:
    """What a process has left that was killed between making a folder and giving it away is given away then.

    A folder of root's in which something stands is not.
    """
    uid, others = unknown_uid(), tmp_path / "others"
    others.mkdir(mode=0o700)
    (others / str(uid)).mkdir(mode=0o700)
    (others / str(uid + 1)).mkdir(mode=0o700)
    (others / str(uid + 1) / "something").touch()
    files = own_files(tmp_path, for_others=others)
    assert Path(files.place_for(uid)).parent == others / str(uid)
    assert ((others / str(uid)).stat().st_uid, others.stat().st_mode & 0o777) == (uid, 0o755)
    assert files.place_for(uid + 1) == NOWHERE
    assert (others / str(uid + 1)).stat().st_uid == 0


def test_a_cache_behind_a_link_is_not_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`~/.cache` may be a link to what hangs, or to this mount, which would wait for itself: the home is taken."""
    home = tmp_path / "home"
    (home / "elsewhere").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (home / ".cache").symlink_to(home / "elsewhere")
    monkeypatch.setattr("vbnfs.filesystem.own_files.home_of", lambda uid: home)
    files = own_files(tmp_path)
    (tmp_path / "allensdk").rmdir()
    assert Path(files.place_for(os.geteuid())).parent == home
