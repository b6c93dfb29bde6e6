"""`vbnfs web`: how the page is reached, and what is written about it."""

import re
import signal
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from vbnfs.cli.doctor import rows_without_fetching
from vbnfs.config.environment import WEB_TOKEN, load_supervisor, web_token
from vbnfs.config.sources import LoadedSettings
from vbnfs.daemon.systemd import SystemdNotifier
from vbnfs.errors import UsageError, WebError
from vbnfs.host.atomic import output_file
from vbnfs.host.identity import HAS_USERS
from vbnfs.host.runtime import make_runtime_directory

try:
    from vbnfs.web.app import make_app
    from vbnfs.web.copied import Lines
    from vbnfs.web.guard import TOKEN, Guard, Keys
    from vbnfs.web.house import House
    from vbnfs.web.neighbours import is_stranger
    from vbnfs.web.rendering import Pages
    from vbnfs.web.serving import Listening, listen, serve
except ModuleNotFoundError as error:
    raise WebError(f"{error.name} is not installed: pip install 'vbnfs[web]'") from error

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_SAFE_TOKEN: Final = re.compile(r"[0-9A-Za-z]{32,128}")


def run(
    loaded: LoadedSettings,
    *,
    port: int,
    is_opened: bool = False,
    address_file: Path | None = None,
    hosts: Sequence[str] = (),
    any_user: bool = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises `WebError`."""
    config, keys, listening = loaded.config, Keys(_given_token()), listen(port)
    address = f"{listening.address}?{TOKEN}={keys.token}"
    with ExitStack() as stack:
        if address_file is not None:
            _write(address_file, address)
            stack.callback(address_file.unlink, missing_ok=True)
        opened: Callable[[], object] | None = None
        if is_opened:
            opened = partial(webbrowser.open, stack.enter_context(leading_to(address, port=listening.port)))
        print(_announced(listening, address, address_file), flush=True)
        examine = partial(rows_without_fetching, config)
        house = stack.enter_context(closing(House(config, examine=examine, lines=Lines.of(loaded))))
        page = make_app(house, Pages(proof=keys.proof, dataset=config.project))
        until = partial(_until_asked, listening, opened)
        serve(Guard(page, keys, hosts=hosts), listening, until, is_stranger=None if any_user else is_stranger)


def _announced(listening: Listening, address: str, address_file: Path | None) -> str:
    """What is said of the address. The token is a secret: it is said only if nothing else has it."""
    if address_file is not None:
        return f"The page is at {listening.address}; {address_file} lets you in."
    if web_token() is not None:
        return f"The page is at {listening.address}; the token in {WEB_TOKEN} lets in."
    return f"The page is at {address}\nOnly who has this address gets in. Ctrl-C ends."


def _given_token() -> str | None:
    """The token that another program has chosen. Raises `UsageError` for one that could be guessed."""
    given = web_token()
    if given is not None and _SAFE_TOKEN.fullmatch(given) is None:
        raise UsageError(f"{WEB_TOKEN}: give 32 letters or digits at least, as 'openssl rand -hex 32' makes them")
    return given


async def _until_asked(listening: Listening, opened: Callable[[], object] | None) -> None:
    """Return at a signal. A supervisor reads until then that the page is there."""
    notifier = SystemdNotifier(load_supervisor())
    with trio.open_signal_receiver(*_ENDING) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.ready, lambda: f"at {listening.address}")
            if opened is not None:
                await trio.to_thread.run_sync(opened)
            async for _ in signals:
                nursery.cancel_scope.cancel()


@contextmanager
def leading_to(address: str, *, port: int) -> Iterator[str]:
    """What a browser is to open. Its command line, which every user can read, names a file instead of the token.

    Browsers in snaps read files of the home folder, if no part of their name is hidden, and none in /run or /tmp:
    https://snapcraft.io/docs/home-interface. Raises `WebError`, and `MountError` where there is no place at all.
    """
    if not HAS_USERS:
        yield address
        return
    name = f"vbnfs-web-{port}.html"
    try:
        place = Path.home() / name
        _write(place, address)
    except (RuntimeError, WebError):  # a user without a home, or one that cannot be written
        place = make_runtime_directory() / name
        _write(place, address)
    try:
        yield place.as_uri()
    finally:
        with suppress(OSError):  # the home folder's server has gone: the page has ended all the same
            place.unlink()


def _write(place: Path, address: str) -> None:
    """A page of this user alone that leads to an address. Raises `WebError`."""
    try:
        with output_file(place, mode=0o600) as out:
            out.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={address}">\n'.encode())
    except OSError as error:
        raise WebError(f"{place}: {error.strerror}; name another file") from error
