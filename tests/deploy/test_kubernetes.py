"""deploy/kubernetes: Kubernetes knows each field, and each image, folder, port and command is one that there is."""

import re
import shlex
from pathlib import Path
from typing import Any, Final

import click
import kubernetes_validate
import pytest
import yaml

from tests.deploy.manifests import (
    DEPLOY,
    FOLDER,
    KUSTOMIZATION,
    Manifest,
    all_manifests,
    commands,
    containers,
    documents,
    of_kind,
    pod_spec,
)
from vbnfs import __version__
from vbnfs.cli.main import cli
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config

IMAGE: Final = f"localhost/vbnfs:{__version__}"
FIRST: Final = "1.29"  # that has sidecars without being asked for them
VERSIONS: Final = (FIRST, kubernetes_validate.latest_version())
SPECS: Final = [(one["metadata"]["name"], spec) for one in all_manifests() if (spec := pod_spec(one)) is not None]
MOUNTING: Final = [
    (name, spec, container) for name, spec in SPECS for container in containers(spec) if "args" in container
]
DOCUMENTS: Final = ("kubernetes.md", "container-image.md")


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", all_manifests(), ids=name_of)
def test_the_schemas(manifest: Manifest, version: str) -> None:
    """Each manifest has the fields that Kubernetes has, and no others, in the first version and in the newest."""
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_refuse() -> None:
    """A field that Kubernetes has not got is found: so these schemas are asked."""
    wrong = {**of_kind("DaemonSet"), "spex": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, FIRST, strict=True)


def test_what_is_applied() -> None:
    """kubectl applies files that there are, once each, and gives the image that they name another name."""
    [kustomization] = documents(KUSTOMIZATION)
    assert set(kustomization) == {"apiVersion", "kind", "resources", "images"}
    resources = kustomization["resources"]
    assert len(resources) == len(set(resources))
    assert all((FOLDER / name).is_file() for name in resources)
    [image] = kustomization["images"]
    assert (image["name"], str(image["newTag"])) == (IMAGE.partition(":")[0], __version__)
    namespaces = {one["metadata"].get("namespace") for name in resources for one in documents(name)}
    assert namespaces == {None, of_kind("Namespace")["metadata"]["name"]}


@pytest.mark.parametrize(("name", "spec"), SPECS)
def test_images(name: str, spec: Manifest) -> None:
    """All images are the one that deploy/container/build makes of this version."""
    assert {one["image"] for one in containers(spec)} == {IMAGE}, name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_images_of_documents(document: str) -> None:
    """The documents name the image of this version."""
    text = (DEPLOY.parent / "docs" / document).read_text(encoding="utf-8")
    assert set(re.findall(r"/vbnfs:([\d.]+\d)", text)) <= {__version__}


def vbnfs_lines(command: list[str]) -> list[list[str]]:
    """What a command gives to vbnfs, also by way of a shell."""
    if command[:2] == ["sh", "-c"]:
        return [shlex.split(one) for one in re.split(r"&&|;", command[2]) if one.strip().startswith("vbnfs ")]
    return [command] if command[0] == "vbnfs" else []


@pytest.mark.parametrize(("name", "spec"), SPECS)
def test_commands(name: str, spec: Manifest) -> None:
    """Each command of vbnfs exists, with its options; all others are programs of the image."""
    for command in (one for container in containers(spec) for one in commands(container)):
        assert command[0] in {"vbnfs", "sh", "stat", "cat"}, name
        for _, subcommand, *words in vbnfs_lines(command):
            found = cli.get_command(click.Context(cli), subcommand)
            assert found is not None, command
            found.make_context(None, words, parent=click.Context(cli, **cli.context_settings))


@pytest.mark.parametrize(("name", "spec"), SPECS)
def test_volumes(name: str, spec: Manifest) -> None:
    """A container mounts volumes that its pod has, and none is left over; privileged ones show their mounts."""
    used = {mount["name"] for one in containers(spec) for mount in one["volumeMounts"]}
    assert used == {volume["name"] for volume in spec["volumes"]}, name
    for container in containers(spec):
        is_privileged = container.get("securityContext", {}).get("privileged", False)
        directions = {mount.get("mountPropagation") for mount in container["volumeMounts"]}
        assert ("Bidirectional" in directions) == is_privileged == ("args" in container)
        assert is_privileged or directions == {"HostToContainer"}


def settings_of(spec: Manifest, tmp_path: Path) -> Config:
    """The settings of the vbnfs in a pod: of its ConfigMap, or else of the image."""
    maps = [volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume]
    if maps:
        text = of_kind("ConfigMap", maps[0])["data"]["config.toml"]
    else:
        container_file = (DEPLOY / "container" / "Containerfile").read_text(encoding="utf-8")
        [line] = re.findall(r"printf '%s\\n' (.*) >/etc/vbnfs/config.toml", container_file)
        text = "\n".join(shlex.split(line))
    (tmp_path / "config.toml").write_text(text)
    return load_config(command_line={}, config_file=tmp_path / "config.toml", environ={})


@pytest.mark.parametrize(("name", "spec", "container"), MOUNTING)
def test_folders_and_ports(name: str, spec: Manifest, container: Manifest, tmp_path: Path) -> None:
    """The settings are understood; they name folders of volumes, and the probes ask of the same mount and port."""
    config = settings_of(spec, tmp_path)
    assert config.allow_other
    assert config.mountpoint is not None
    mounts = {Path(one["mountPath"]): one for one in container["volumeMounts"]}
    assert mounts[config.mountpoint.parent]["mountPropagation"] == "Bidirectional", name
    volumes = {one["name"]: one for one in spec["volumes"]}
    assert "hostPath" in volumes[mounts[config.cache_dir]["name"]]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == ["stat", "--file-system", f"{config.mountpoint}/README.txt"]
    if config.metrics_address is not None:
        asked = container["readinessProbe"]["httpGet"]
        assert (f"{asked['host']}:{asked['port']}", asked["path"]) == (config.metrics_address, "/metrics")
        assert spec["hostNetwork"]


def test_the_end_of_the_daemon() -> None:
    """The hook before the end leaves the daemon some seconds for an end of its own."""
    spec = of_kind("DaemonSet")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    [_, _, line] = container["lifecycle"]["preStop"]["exec"]["command"]
    assert int(line.split()[-1]) + 10 < spec["terminationGracePeriodSeconds"]


def test_the_daemon_set_finds_its_pods() -> None:
    """The labels of the pods are those that are selected; the priority is one that is made beside it."""
    spec = of_kind("DaemonSet")["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert spec["template"]["spec"]["priorityClassName"] == of_kind("PriorityClass")["metadata"]["name"]


def test_what_readers_take() -> None:
    """A pod that reads, and the volume that stands for it, take the folder in which the DaemonSet mounts."""
    spec = of_kind("DaemonSet")["spec"]["template"]["spec"]
    mounted = [one["name"] for one in spec["containers"][0]["volumeMounts"] if "mountPropagation" in one]
    [folder] = [one["hostPath"]["path"] for one in spec["volumes"] if one["name"] in mounted]
    [volume] = of_kind("Pod", "reader")["spec"]["volumes"]
    assert volume["hostPath"]["path"] == of_kind("PersistentVolume")["spec"]["hostPath"]["path"] == folder
    claim, stored = of_kind("PersistentVolumeClaim"), of_kind("PersistentVolume")
    assert claim["spec"]["volumeName"] == stored["metadata"]["name"]
    wanted = stored["spec"]["claimRef"]
    assert wanted == {key: claim["metadata"][key] for key in ("namespace", "name")}


def test_the_document_shows_the_reader() -> None:
    """What docs/kubernetes.md shows of a pod that reads is what reader.yaml has."""
    text = (DEPLOY.parent / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    wanted: dict[str, Any] = yaml.safe_load(f"spec:\n  containers:\n    - name: reader\n{shown}")
    spec = of_kind("Pod", "reader")["spec"]
    assert wanted["spec"]["volumes"] == spec["volumes"]
    assert wanted["spec"]["containers"][0]["volumeMounts"] == spec["containers"][0]["volumeMounts"]
