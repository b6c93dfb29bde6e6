"""`vbnfs web`: how the page is reached, and what is written about it."""

import signal
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import trio

from vbnfs.config.settings import Config
from vbnfs.errors import WebError
from vbnfs.host.atomic import output_file
from vbnfs.host.runtime import make_runtime_directory

try:
    from vbnfs.web.app import make_app
    from vbnfs.web.guard import TOKEN, Guard, Keys
    from vbnfs.web.house import House
    from vbnfs.web.rendering import Pages
    from vbnfs.web.serving import Listening, listen, serve
except ModuleNotFoundError as error:
    raise WebError(f"{error.name} is not installed: pip install 'vbnfs[web]'") from error

_ENDING = (signal.SIGINT, signal.SIGTERM)


def run(config: Config, *, port: int, is_opened: bool, hosts: Sequence[str]) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises `WebError`."""
    listening, keys, house = listen(port), Keys(), House(config)
    address = f"{listening.address}?{TOKEN}={keys.token}"
    app = Guard(make_app(house, Pages(proof=keys.proof, dataset=config.project)), keys, hosts=hosts)

    async def until_asked() -> None:
        with trio.open_signal_receiver(*_ENDING) as signals:
            if is_opened:
                await trio.to_thread.run_sync(_open, listening, address)
            async for _ in signals:
                return

    print(f"The page is at {address}", flush=True)
    print("Only who has this address gets in. Ctrl-C ends.", flush=True)
    try:
        serve(app, listening, until_asked)
    finally:
        house.close()


def _open(listening: Listening, address: str) -> None:
    """Have a browser open it. Its command line, which every user can read, names a file instead of the token."""
    place = make_runtime_directory() / f"web-{listening.port}.html"
    with output_file(place, mode=0o600) as out:
        out.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={address}">\n'.encode())
    webbrowser.open(Path(place).as_uri())
