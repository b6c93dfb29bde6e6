"""Runs in a machine: each connection sends a command as JSON, and gets its status and output."""

import json
import os
import pwd
import socket
import socketserver
import subprocess
import sys
from pathlib import Path


class Command(socketserver.StreamRequestHandler):
    """`{"command": [...], "user": "one", "seconds": 60}` -> `{"status": 0, "output": "..."}`."""

    def handle(self) -> None:
        """Run one. The status is -1 where it takes longer."""
        asked = json.loads(self.rfile.readline())
        user = pwd.getpwnam(asked["user"])
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": user.pw_dir}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}
        try:
            done = subprocess.run(
                asked["command"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=asked["seconds"],
                env=environment,
                cwd="/tmp",
                user=user.pw_uid,
                group=user.pw_gid,
                check=False,
            )
            reply = {"status": done.returncode, "output": done.stdout.decode(errors="replace")}
        except subprocess.TimeoutExpired as error:
            reply = {"status": -1, "output": f"{error}: {(error.stdout or b'').decode(errors='replace')}"}
        self.wfile.write(json.dumps(reply).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    """Serves the machine's host."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    address, _, port = os.environ["READY"].rpartition(":")
    with Server(("0.0.0.0", 7000), Command) as server:
        socket.create_connection((address, int(port))).close()  # it runs commands from now on
        server.serve_forever()
