"""What docs/jupyterhub.md has one write into a hub's configuration, and the spawners of other places."""

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.code_blocks import ROOT, blocks_of

DOCUMENT = "docs/jupyterhub.md"
DEPLOYED = ROOT / "deploy" / "jupyterhub"
PYTHON = ROOT / ".venv-jupyterhub" / "bin" / "python"
# KubeSpawner with the values for helm, and SystemdSpawner with the hook; as JSON.
SPAWNERS = """
import asyncio, json, sys
from types import SimpleNamespace
import yaml
from kubernetes_asyncio.client import ApiClient
from kubespawner import KubeSpawner
from systemdspawner import SystemdSpawner
sys.path.insert(0, sys.argv[1])
from vbnfs_hub import Mount

async def main():
    values = yaml.safe_load(open(f"{sys.argv[1]}/values.yaml"))["singleuser"]
    volumes, mounts = values["storage"]["extraVolumes"], values["storage"]["extraVolumeMounts"]
    pods = KubeSpawner(_mock=True, volumes=volumes, volume_mounts=mounts, environment=values["extraEnv"])
    pod = await pods.get_pod_manifest()
    async with ApiClient() as api:
        spec = api.sanitize_for_serialization(pod.spec)
    # A folder that is a mount point already.
    user = SimpleNamespace(name="me", id=1, spawners={})
    services = SystemdSpawner(user=user, pre_spawn_hook=Mount("/proc", vbnfs="/no/vbnfs").pre_spawn)
    await services.run_pre_spawn_hook()
    print(json.dumps([spec, services.environment["VBN"]]))

asyncio.run(main())
"""
NO_CLUSTER = {
    "current-context": "none",
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "none", "user": {}}],
}


def configurations() -> list[str]:
    """The blocks that stand in jupyterhub_config.py."""
    return [block.code for block in blocks_of(DOCUMENT) if "Mount(" in block.code]


def test_the_configuration() -> None:
    """Each block that makes a mount is run as it stands; the file's own docstring shows the first one, too."""
    first, second = configurations()
    c = SimpleNamespace(Spawner=SimpleNamespace())
    names: dict[str, Any] = {"c": c}
    exec(first.replace("/etc/jupyterhub", str(DEPLOYED)), names)
    assert c.Spawner.pre_spawn_hook == names["mount"].pre_spawn
    assert c.Spawner.post_stop_hook == names["mount"].post_stop
    exec(second, names)
    shown = (DEPLOYED / "vbnfs_hub.py").read_text(encoding="utf-8")
    assert all(f"    {line}".rstrip() in shown for line in first.splitlines())


@pytest.mark.parametrize("document", [DOCUMENT, "docs/slurm.md", "docs/other-hosts.md"])
def test_what_is_copied_is_there(document: str) -> None:
    """Each file of deploy/ that a document names is in the repository."""
    named = re.findall(r"\bdeploy/[\w./-]*\w", (ROOT / document).read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not Path(ROOT, name).exists()] == []


@pytest.mark.slow
def test_spawners_of_other_places(tmp_path: Path) -> None:
    """A pod has the folder above the mount, and sees what is mounted anew; SystemdSpawner runs the hook."""
    (tmp_path / "kube").write_text(json.dumps(NO_CLUSTER))
    command = [PYTHON, "-W", "ignore", "-c", SPAWNERS, DEPLOYED]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={"KUBECONFIG": str(tmp_path / "kube")}
    )
    assert done.returncode == 0, done.stderr
    pod, folder = json.loads(done.stdout.splitlines()[-1])
    [volume] = [one for one in pod["volumes"] if one["name"] == "vbnfs"]
    assert volume["hostPath"] == {"path": "/mnt/vbnfs", "type": "DirectoryOrCreate"}
    [container] = pod["containers"]
    mount = {"name": "vbnfs", "mountPath": "/data", "readOnly": True, "mountPropagation": "HostToContainer"}
    assert mount in container["volumeMounts"]
    assert {"name": "VBN", "value": "/data/vbn"} in container["env"]
    assert f"path: {volume['hostPath']['path']}\n" in (ROOT / "deploy/kubernetes/daemonset.yaml").read_text()
    assert folder == "/proc"
