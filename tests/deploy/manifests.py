"""The manifests of deploy/kubernetes, and what is in them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
FOLDER: Final = DEPLOY / "kubernetes"
KUSTOMIZATION: Final = "kustomization.yaml"  # which kubectl reads, and no API of Kubernetes

Manifest = Mapping[str, Any]


def documents(name: str) -> list[Manifest]:
    """The manifests of a file."""
    return [one for one in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")) if one]


def all_manifests() -> list[Manifest]:
    """The manifests of all files but kustomization.yaml."""
    names = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != KUSTOMIZATION)
    return [one for name in names for one in documents(name)]


def of_kind(kind: str, name: str | None = None) -> Manifest:
    """The only manifest of a kind, or the one with a name."""
    [found] = [one for one in all_manifests() if one["kind"] == kind and name in {None, one["metadata"]["name"]}]
    return found


def pod_spec(manifest: Manifest) -> Manifest | None:
    """The specification of the pod that a manifest makes; None if it makes none."""
    if manifest["kind"] == "Pod":
        spec: Manifest = manifest["spec"]
        return spec
    template: Manifest = manifest.get("spec", {}).get("template", {})
    return template.get("spec")


def containers(spec: Manifest) -> list[Manifest]:
    """All containers of a pod, those that begin first among them."""
    return [*spec.get("initContainers", ()), *spec["containers"]]


def commands(container: Manifest) -> Iterator[list[str]]:
    """All that a container runs: its command, its arguments (of vbnfs), its probes, its hooks."""
    if "args" in container:
        yield ["vbnfs", *container["args"]]
    if "command" in container:
        yield container["command"]
    probes = (container.get(f"{name}Probe", {}) for name in ("startup", "liveness", "readiness"))
    for one in (*probes, *container.get("lifecycle", {}).values()):
        if "exec" in one:
            yield one["exec"]["command"]
