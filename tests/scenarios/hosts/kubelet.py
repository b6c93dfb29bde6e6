"""What a kubelet does with a pod and podman's `kube play` does not: podman 4.3 knows neither DaemonSets nor sidecars.

Of a manifest come pods that podman plays one after the other: each sidecar, and then the containers beside it.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.deploy.manifests import Manifest, of_kind, pod_spec
from tests.fixtures_mount import until
from tests.scenarios.system.namespace import Namespace

_SECONDS: Final = 120  # for a mount on a busy machine

# What podman has no word for, or does itself only by systemd's timers.
_LEFT_OUT: Final = ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "restartPolicy", "resources")


def pods_of(manifest: Manifest, folder: Path, env: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The pods. `folder`: what pods have for themselves is below it; `env`: what containers get besides."""
    spec = pod_spec(manifest)
    assert spec is not None
    name = manifest["metadata"]["name"]
    volumes = [_volume(name, one, folder) for one in spec["volumes"]]
    # The tests' S3 server is at 127.0.0.1 of the node.
    more = {"hostNetwork": True, "securityContext": spec.get("securityContext", {})}
    first = spec.get("initContainers", [])
    sidecars = [one for one in first if one.get("restartPolicy") == "Always"]
    others = [_container(one, env) for one in first if one not in sidecars]
    for sidecar in sidecars:
        alone = {"containers": [_container(sidecar, env)], "restartPolicy": "Never"}  # it ends with its pod
        yield _pod(f"{name}-{sidecar['name']}", {**more, **alone, "volumes": volumes})
    rest = {"initContainers": others, "containers": [_container(one, env) for one in spec["containers"]]}
    restart = spec.get("restartPolicy", "Always")
    yield _pod(name, {**more, **rest, "restartPolicy": restart, "volumes": volumes})


def _pod(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    used = {mount["name"] for one in spec["containers"] for mount in one["volumeMounts"]}
    volumes = [one for one in spec["volumes"] if one["name"] in used]
    rest = {key: value for key, value in spec.items() if value != []}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**rest, "volumes": volumes}}


def _container(container: Manifest, env: Mapping[str, str]) -> dict[str, Any]:
    given = [{"name": name, "value": value} for name, value in env.items()]
    return {**{key: value for key, value in container.items() if key not in _LEFT_OUT}, "env": given}


def _volume(pod: str, volume: Manifest, folder: Path) -> Manifest:
    """An emptyDir is a folder that everybody can write; a claim is the folder of its volume."""
    if "emptyDir" in volume:
        path = folder / pod / volume["name"]
        return {"name": volume["name"], "hostPath": {"path": str(path), "type": "Directory"}}
    if "persistentVolumeClaim" in volume:
        return {"name": volume["name"], "hostPath": of_kind("PersistentVolume")["spec"]["hostPath"]}
    return volume


class Kubelet:
    """podman, which plays manifests in a namespace. `folder` is one of the namespace."""

    def __init__(self, namespace: Namespace, folder: Path, scratch: Path, env: Mapping[str, str]) -> None:
        self._namespace, self._folder, self._scratch, self._env = namespace, folder, scratch, env

    def pods(self, manifest: Manifest) -> Iterator[dict[str, Any]]:
        """The pods of a manifest, whose folders are made."""
        for pod in pods_of(manifest, self._folder, self._env):
            for volume in pod["spec"]["volumes"]:
                path = volume.get("hostPath", {}).get("path", "")
                if path.startswith(str(self._folder)):
                    self._namespace.output("mkdir", "--parents", "--mode=0777", path)
            yield pod

    def play(self, *manifests: Manifest) -> None:
        """Have podman run manifests."""
        file = self._scratch / "play.yaml"
        file.write_text("\n---\n".join(map(json.dumps, manifests)))
        self._namespace.output("podman", "kube", "play", "--quiet", str(file))

    def wait_until_ready(self, container: str, manifest: Manifest) -> None:
        """Run the probe of a container that starts until it succeeds, while the container runs."""

        def is_ready() -> bool:
            logs = self._namespace.run("podman", "logs", container)
            assert self.pid_of(container), logs.stdout + logs.stderr
            return self.execute(container, manifest["startupProbe"]["exec"]["command"]) == 0

        until(is_ready, seconds=_SECONDS)

    def execute(self, container: str, command: Sequence[str]) -> int:
        """Run a probe or a hook in a container; its exit status."""
        return self._namespace.run("podman", "exec", container, *command).returncode

    def output(self, container: str, command: Sequence[str]) -> str:
        """What a program writes that must not fail in a container."""
        return self._namespace.output("podman", "exec", container, *command)

    @contextmanager
    def running(self, container: str, command: Sequence[str]) -> Iterator[None]:
        """While entered, a hook runs in a container; then it has ended, as a container's end ends it."""
        namespace = ["nsenter", f"--mount={self._namespace.path}", "--"]
        with subprocess.Popen([*namespace, "podman", "exec", container, *command]):
            yield

    def pid_of(self, container: str) -> int:
        """The first process of a container; 0 if it does not run."""
        return int(self._namespace.output("podman", "inspect", "--format={{.State.Pid}}", container))

    def remove_all(self) -> None:
        """End all pods and containers at once."""
        self._namespace.run("podman", "pod", "rm", "--force", "--all", "--time=0")
        self._namespace.run("podman", "rm", "--force", "--all", "--time=0")
