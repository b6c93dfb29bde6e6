"""The page as a tile in Jupyter's launcher: what jupyter-server-proxy starts when the tile is opened.

It finds this by an entry point of the package. The server of Jupyter starts `vbnfs web` as its own user, and passes
on what asks for `vbnfs/` below its address. Jupyter knows who may ask it; the token lets the tile in besides. The
environment of the process hands it over, which other users cannot read: proc_pid_environ(5).

Source: jupyter-server-proxy, "Server process options" and "Package jupyter-server-proxy configuration".
"""

import secrets
import sys
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, Final

from vbnfs.config.environment import WEB_TOKEN

_NAME: Final = "vbnfs"  # that of the entry point; the page is below it
_START_SECONDS: Final = 60.0  # on a busy hub


def tile() -> dict[str, Any]:
    """The options of the server process. Without the extra `web` there is no tile."""
    token = secrets.token_hex(32)
    return {
        "command": [sys.executable, "-m", "vbnfs", "web", "--port", "{port}"],
        "environment": {WEB_TOKEN: token},
        "timeout": _START_SECONDS,
        "request_headers_override": {"Host": "localhost"},  # Jupyter's server knows its own names
        "launcher_entry": {
            "enabled": find_spec("starlette") is not None,
            "title": "Dataset (vbnfs)",
            "icon_path": str(files("vbnfs.web") / "static" / "icon.svg"),
            "path_info": f"{_NAME}/?token={token}",
        },
    }
