"""A browser without a window, driven by the Chrome DevTools Protocol over two pipes (`--remote-debugging-pipe`).

A message is a JSON object that a zero byte ends. The browser reads from its descriptor 3, and writes to 4.
"""

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.waiting import until

_COMPLAINTS: Final = {"error", "warning", "assert"}


class BrowserError(Exception):
    """The browser has not done what it was asked for; the text says why."""


class Browser:
    """Chromium, with one page. Use it in a `with` statement.

    `requests` are the addresses that it has asked for, `complaints` what it has written to its console that is wrong:
    exceptions, errors and warnings of scripts, and what it has refused.
    """

    def __init__(self, profile: Path) -> None:
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        script = f'exec chromium "$@" 3</proc/self/fd/{commands} 4>/proc/self/fd/{answers}'
        # Root may use it only without its sandbox.
        options = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        )
        self._process = subprocess.Popen(
            ["sh", "-c", script, "sh", *options, "--remote-debugging-pipe", "about:blank"],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._answers = os.fdopen(self._read, "rb")
        self._number = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()
        os.close(self._write)

    def open(self, address: str) -> None:
        """Load a page, and return when it is loaded with all that it consists of."""
        self._call("Page.navigate", url=address)
        self.evaluate("document.readyState == 'complete' || new Promise(r => addEventListener('load', r))")

    def before_each_page(self, script: str) -> None:
        """Have a script run in each page that is opened from now on, before the page's own."""
        self._call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def type(self, text: str) -> None:
        """Type a text where the cursor is."""
        self._call("Input.insertText", text=text)

    def evaluate(self, script: str) -> Any:
        """What a script comes to; a promise is waited for."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, element: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Click what a script finds, with the mouse, where it is seen; it is scrolled to first.

        `meanwhile`: while the button of the mouse is down.
        """
        script = f"""(() => {{
            const element = {element};
            element.scrollIntoView({{block: 'center'}});
            const box = element.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
            return element.contains(document.elementFromPoint(x, y)) ? [x, y] : null;
        }})()"""
        at = self.evaluate(script)
        if at is None:
            raise BrowserError(f"{element} is not to be seen")
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1)
            if kind == "mousePressed":
                meanwhile()

    def press(self, key: str, code: int, text: str = "", meanwhile: Callable[[], None] = lambda: None) -> None:
        """Press a key and let it go: `code` is its number on Windows, as the protocol wants; it writes `text`.

        `meanwhile`: while it is down.
        """
        for kind in ("keyDown", "keyUp"):
            named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
            self._call("Input.dispatchKeyEvent", type=kind, text=text if kind == "keyDown" else "", **named)
            if kind == "keyDown":
                meanwhile()

    def show(self, width: int, height: int, *, is_dark: bool = False, medium: str = "screen") -> None:
        """Have a window of so many CSS pixels, light or dark, or paper (`medium`: print)."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._call("Emulation.setEmulatedMedia", media=medium, features=[scheme])

    def wait(self, condition: str) -> None:
        """Wait until an expression is true in the page, or in one that has taken its place."""
        until(lambda: self._is_so(condition))

    def _is_so(self, condition: str) -> bool:
        try:
            answer = self._call("Runtime.evaluate", expression=f"!!({condition})", returnByValue=True)
        except BrowserError:  # another page is about to take its place
            return False
        return answer["result"].get("value") is True

    def picture(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            self._note(answer.get("method"), answer.get("params", {}))
        if "error" in answer:
            raise BrowserError(str(answer["error"]))
        result: dict[str, Any] = answer["result"]
        return result

    def _note(self, event: str | None, what: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(str(what["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and what["type"] in _COMPLAINTS:
            self.complaints.append(str(what["args"]))
        elif event == "Log.entryAdded" and what["entry"]["level"] in _COMPLAINTS:
            self.complaints.append(f"{what['entry']['text']} ({what['entry'].get('url')})")

    def _message(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            text += byte
        message: dict[str, Any] = json.loads(text)
        return message
