"""Runs in a machine: each connection sends a command as JSON, and gets its status and output."""

import json
import os
import socketserver
import subprocess


class Command(socketserver.StreamRequestHandler):
    """`{"command": [...], "user": 1000, "seconds": 60}` -> `{"status": 0, "output": "..."}`."""

    def handle(self) -> None:
        """Run one."""
        asked = json.loads(self.rfile.readline())
        user = asked["user"]
        home = "/root" if user == 0 else f"/home/{'one' if user == 1000 else 'two'}"
        environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "HOME": home}
        environment |= {"PYTHONPATH": "/program", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}
        try:
            done = subprocess.run(
                asked["command"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=asked["seconds"],
                env=environment,
                cwd="/tmp",
                user=user,
                group=user,
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
    print("READY", flush=True)
    Server(("0.0.0.0", 7000), Command).serve_forever()
