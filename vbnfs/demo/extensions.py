"""The NWB types that AllenSDK adds to the core, and requires in the file of a session.

Namespaces, names and fields are AllenSDK's. As NWB has it, each file contains the definitions that it uses, so that
programs without AllenSDK can read the files, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from pynwb import get_class, load_namespaces
from pynwb.spec import NWBAttributeSpec, NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder

_Shape: TypeAlias = tuple[int | None, ...]  # None: any length

_VERSIONS: Final = {
    "ndx-aibs-behavior-ophys": "0.2.0",
    "ndx-aibs-ecephys": "0.2.0",
    "ndx-aibs-ophys-event-detection": "0.1.0",
    "ndx-aibs-stimulus-template": "0.1.0",
    "ndx-ellipse-eye-tracking": "0.1.0",
}
_TASK: Final = {
    "auto_reward_volume": "float",
    "n_stimulus_frames": "int",
    "omitted_flash_fraction": "float",
    "reward_volume": "float",
    "session_type": "text",
    "stimulus": "text",
    "stimulus_distribution": "text",
    "stimulus_duration_sec": "float",
    "stimulus_name": "text",
    "task": "text",
}
_BEHAVIOR: Final = {
    "behavior_session_id": "int",
    "behavior_session_uuid": "text",
    "equipment_name": "text",
    "project_code": "text",
    "session_type": "text",
    "stimulus_frame_rate": "float",
}
_OPHYS: Final = {
    "field_of_view_height": "int",
    "field_of_view_width": "int",
    "imaging_depth": "int",
    "imaging_plane_group": "int",
    "imaging_plane_group_count": "int",
    "ophys_container_id": "int",
    "ophys_experiment_id": "int",
    "ophys_session_id": "int",
    "targeted_imaging_depth": "int",
}
_RIG_POSITIONS: Final = ("camera_position", "camera_rotation", "led_position", "monitor_position", "monitor_rotation")
_ELLIPSES: Final = ("eye_tracking", "pupil_tracking", "corneal_reflection_tracking")


@cache
def extension_type(name: str) -> Any:
    """The class of an extension type, such as `EcephysProbe`; its constructor takes the fields of the type."""
    return get_class(name, _loaded()[name])


@cache
def _loaded() -> Mapping[str, str]:
    """Make all namespaces known to pynwb. Returns the namespace of each type."""
    namespaces = {}
    with tempfile.TemporaryDirectory(prefix="vbnfs-nwb-") as directory:
        for namespace, types in _types().items():
            builder = NWBNamespaceBuilder(
                doc=f"Types that AllenSDK reads ({namespace}).",
                name=namespace,
                version=_VERSIONS[namespace],
                author="Allen Institute for Brain Science",
                contact="https://github.com/AllenInstitute/AllenSDK",
            )
            builder.include_namespace("core")
            for spec in types:
                builder.add_spec(f"{namespace}.extensions.yaml", spec)
                namespaces[spec["neurodata_type_def"]] = namespace
            builder.export(f"{namespace}.namespace.yaml", outdir=directory)
            load_namespaces(str(Path(directory) / f"{namespace}.namespace.yaml"))
    return namespaces


def _types() -> Mapping[str, list[NWBGroupSpec]]:
    return {
        "ndx-aibs-behavior-ophys": [
            _task(),
            _subject(),
            _type("BehaviorMetadata", "LabMetaData", _BEHAVIOR),
            _type("OphysBehaviorMetadata", "BehaviorMetadata", _OPHYS),
            _rig(),
        ],
        "ndx-aibs-ecephys": [
            _type("EcephysProbe", "Device", {"probe_id": "int", "sampling_rate": "float64"}),
            _type(
                "EcephysElectrodeGroup",
                "ElectrodeGroup",
                {"has_lfp_data": "bool", "lfp_sampling_rate": "float64", "probe_id": "int"},
            ),
            _current_source_density(),
        ],
        "ndx-aibs-ophys-event-detection": [
            _type(
                "OphysEventDetection",
                "RoiResponseSeries",
                name="event_detection",
                datasets=[_dataset(name, "float", (None,)) for name in ("lambdas", "noise_stds")],
            )
        ],
        "ndx-aibs-stimulus-template": [
            _type("StimulusTemplate", "ImageSeries", datasets=[_dataset("unwarped", "float", (None, None, None))])
        ],
        "ndx-ellipse-eye-tracking": _ellipses(),
    }


def _task() -> NWBGroupSpec:
    spec = _type("BehaviorTaskParameters", "LabMetaData", _TASK)
    for name in ("blank_duration_sec", "response_window_sec"):  # two numbers, as text
        spec.set_attribute(NWBAttributeSpec(name=name, doc=_doc(name), dtype="text", shape=(2,)))
    return spec


def _subject() -> NWBGroupSpec:
    spec = _type("BehaviorSubject", "Subject", {"reporter_line": "text"})
    name = "driver_line"
    spec.set_attribute(NWBAttributeSpec(name=name, doc=_doc(name), dtype="text", shape=(None,), required=False))
    return spec


def _rig() -> NWBGroupSpec:
    positions = [_dataset(name, "float", (3,), ("unit_of_measurement",)) for name in _RIG_POSITIONS]
    return _type("OphysEyeTrackingRigMetadata", "NWBDataInterface", {"equipment": "text"}, datasets=positions)


def _current_source_density() -> NWBGroupSpec:
    positions = [_dataset(f"virtual_electrode_{axis}_positions", "float32", (None,), ("unit",)) for axis in "xy"]
    densities = [NWBGroupSpec(neurodata_type_inc="TimeSeries", doc="the density at each virtual electrode")]
    return _type("EcephysCSD", "NWBDataInterface", datasets=positions, groups=densities)


def _ellipses() -> list[NWBGroupSpec]:
    fields = [_dataset("data", "numeric", (None, 2))]
    fields += [_dataset(name, "float", (None,)) for name in ("area", "area_raw", "width", "height", "angle")]
    tracked = [NWBGroupSpec(name=name, neurodata_type_inc="EllipseSeries", doc=_doc(name)) for name in _ELLIPSES]
    blinks = NWBGroupSpec(name="likely_blink", neurodata_type_inc="TimeSeries", doc="whether the eye was closed")
    further = NWBGroupSpec(
        neurodata_type_inc="SpatialSeries", quantity="*", doc="none is needed besides the ellipses"
    )
    return [
        _type("EllipseSeries", "SpatialSeries", datasets=fields),
        _type("EllipseEyeTracking", "EyeTracking", groups=[*tracked, blinks, further], default_name="EyeTracking"),
    ]


def _type(type_: str, base: str, attributes: Mapping[str, str] | None = None, **more: Any) -> NWBGroupSpec:
    """A type that adds attributes (name: dtype) to `base`; `more` are further parts of the specification."""
    specs = [
        NWBAttributeSpec(name=field, doc=_doc(field), dtype=dtype) for field, dtype in (attributes or {}).items()
    ]
    return NWBGroupSpec(neurodata_type_def=type_, neurodata_type_inc=base, doc=type_, attributes=specs, **more)


def _dataset(
    name: str, dtype: str, shape: tuple[int | None, ...], attributes: tuple[str, ...] = ()
) -> NWBDatasetSpec:
    texts = [NWBAttributeSpec(name=attribute, doc=_doc(attribute), dtype="text") for attribute in attributes]
    return NWBDatasetSpec(name=name, doc=_doc(name), dtype=dtype, shape=shape, attributes=texts)


def _doc(name: str) -> str:
    return name.replace("_", " ")
