"""A small release of the sister dataset, Visual Behavior Ophys, with genuine NWB files."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from pynwb import NWBFile
from pynwb.base import Images, ProcessingModule
from pynwb.image import GrayscaleImage
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, OpticalChannel, PlaneSegmentation

from vbnfs.demo.behavior import add_behavior, draw_task
from vbnfs.demo.chance import stream
from vbnfs.demo.cohort import make_cohort
from vbnfs.demo.extensions import extension_type
from vbnfs.demo.nwb import behavior_metadata, new_file, series, write
from vbnfs.demo.release import LocalRelease, LocalVersion
from vbnfs.demo.scale import ReleaseScale

BUCKET: Final = "visual-behavior-ophys-data"
PROJECT: Final = "visual-behavior-ophys"
CELLS: Final = 4
FRAMES: Final = 300
_RATE: Final = 31.0
_SHAPE: Final = (16, 12)  # height and width of the imaging plane
_SECONDS: Final = 60.0
_MOUSE: Final = {
    "mouse_id": 445002,
    "genotype": "Slc17a7-IRES2-Cre/wt;Camk2a-tTA/wt;Ai93(TITL-GCaMP6f)/wt",
    "sex": "F",
    "age_in_days": 140,
    "equipment_name": "CAM2P.3",
}
EXPERIMENTS: Final = (775614751, 778644591)
TRAININGS: Final = (870987812,)


def make_ophys_release(directory: Path) -> LocalRelease:
    """Write two versions of two imaging experiments and a training; the second has another table of cells."""
    data: dict[int, str] = {}
    sources: dict[str, Path] = {}
    for file_id, experiment in enumerate(EXPERIMENTS):
        data[file_id] = path = f"behavior_ophys_experiments/behavior_ophys_experiment_{experiment}.nwb"
        sources[path] = directory / path
        _write_experiment(sources[path], experiment, _session(file_id))
    for number, training in enumerate(TRAININGS):
        file_id = len(EXPERIMENTS) + number
        data[file_id] = path = f"behavior_sessions/behavior_session_{training}.nwb"
        sources[path] = directory / path
        file = new_file(training, _training(training))
        _add_behavior(file, training)
        write(sources[path], file)
    versions = tuple(_version(directory, version, data, sources) for version in ("1.0.0", "1.1.0"))
    return LocalRelease(directory, make_cohort(0, ReleaseScale.tiny()), versions)


def _session(number: int) -> dict[str, Any]:
    return _MOUSE | {
        "behavior_session_id": 775000000 + number,
        "ophys_session_id": 775100000 + number,
        "date_of_acquisition": datetime(2018, 11, 1 + number, 12, 0, tzinfo=UTC),
        "session_type": f"OPHYS_{number + 1}_images_A",
    }


def _training(behavior_session_id: int) -> dict[str, Any]:
    return _MOUSE | {
        "behavior_session_id": behavior_session_id,
        "date_of_acquisition": datetime(2018, 9, 1, 12, 0, tzinfo=UTC),
        "session_type": "TRAINING_4_images_A_training",
    }


def _version(directory: Path, version: str, data: dict[int, str], files: dict[str, Path]) -> LocalVersion:
    tables = directory / version
    tables.mkdir()
    metadata, sources = {}, dict(files)
    for stem, table in ophys_tables(version).items():
        metadata[stem] = path = f"project_metadata/{stem}.csv"
        sources[path] = tables / f"{stem}.csv"
        table.to_csv(sources[path], index=False)
    return LocalVersion(version, metadata, data, sources, frozenset())


def ophys_tables(version: str) -> dict[str, pd.DataFrame]:
    """The four tables of a version."""
    experiments = pd.DataFrame([_session(number) for number in range(len(EXPERIMENTS))]).assign(
        ophys_experiment_id=EXPERIMENTS,
        ophys_container_id=782536745,
        imaging_depth=375,
        targeted_structure="VISp",
        file_id=range(len(EXPERIMENTS)),
    )
    in_lists = {name: [f"[{value}]" for value in experiments[name]] for name in _LISTS}
    sessions = experiments.drop(columns=["imaging_depth", "targeted_structure", "file_id"]).assign(**in_lists)
    trainings = pd.DataFrame([_training(training) for training in TRAININGS])
    trainings["file_id"] = [len(EXPERIMENTS) + number for number in range(len(TRAININGS))]
    cells = [(experiment, cell) for experiment in EXPERIMENTS for cell in range(CELLS)]
    return {
        "ophys_session_table": sessions,
        "behavior_session_table": pd.concat([trainings, sessions.assign(file_id=-999)]),
        "ophys_experiment_table": experiments,
        "ophys_cells_table": pd.DataFrame(
            {
                "cell_roi_id": [_roi(experiment, cell) for experiment, cell in cells],
                "cell_specimen_id": [1086490000 + cell if version == "1.1.0" else None for _, cell in cells],
                "ophys_experiment_id": [experiment for experiment, _ in cells],
            }
        ),
    }


_LISTS: Final = ("ophys_experiment_id", "ophys_container_id")


def _roi(experiment: int, cell: int) -> int:
    return experiment * 10 + cell


def _add_behavior(file: NWBFile, label: int) -> np.random.Generator:
    random = stream(0, "ophys", label)
    add_behavior(file, draw_task(random, _SECONDS, "G"), random, (12, 16), 0.005)
    return random


def _write_experiment(path: Path, experiment: int, session: dict[str, Any]) -> None:
    metadata = extension_type("OphysBehaviorMetadata")(
        **behavior_metadata(session, "VisualBehavior"),
        ophys_experiment_id=experiment,
        ophys_session_id=session["ophys_session_id"],
        ophys_container_id=782536745,
        field_of_view_height=_SHAPE[0],
        field_of_view_width=_SHAPE[1],
        imaging_depth=375,
        targeted_imaging_depth=375,
        imaging_plane_group=-1,
        imaging_plane_group_count=0,
    )
    file = new_file(experiment, session, metadata)
    random = _add_behavior(file, experiment)
    module = file.create_processing_module("ophys", "Ophys processing module")
    cells = _add_cells(file, module, experiment)
    _add_traces(module, cells, random)
    images = Images(name="images")
    for name in ("max_projection", "average_image", "segmentation_mask_image"):
        images.add_image(GrayscaleImage(name=name, data=random.integers(0, 255, size=_SHAPE), resolution=0.08))
    module.add(images)
    write(path, file)


def _add_cells(file: NWBFile, module: ProcessingModule, experiment: int) -> PlaneSegmentation:
    plane = file.create_imaging_plane(
        name="imaging_plane_1",
        optical_channel=OpticalChannel(name="channel_1", description="2P Optical Channel", emission_lambda=520.0),
        description="a field of view",
        device=file.create_device(name=_MOUSE["equipment_name"]),
        excitation_lambda=910.0,
        imaging_rate=_RATE,
        indicator="GCaMP6f",
        location="VISp",
    )
    segmentation = ImageSegmentation(name="image_segmentation")
    module.add(segmentation)
    table = segmentation.create_plane_segmentation(
        name="cell_specimen_table", description="Segmented rois", imaging_plane=plane
    )
    values = {"height": 3, "width": 3, "y": 2, "mask_image_plane": 0, "valid_roi": True}
    values |= {f"max_correction_{side}": 1.0 for side in ("down", "left", "right", "up")}
    for name in ("cell_specimen_id", "x", *values):
        table.add_column(name, name.replace("_", " "))
    for cell in range(CELLS):
        mask = np.zeros(_SHAPE, dtype=np.uint8)
        mask[2:5, 3 * cell : 3 * cell + 3] = 1
        table.add_roi(
            id=_roi(experiment, cell), image_mask=mask, x=3 * cell, cell_specimen_id=1086490000 + cell, **values
        )
    return table


def _add_traces(module: ProcessingModule, cells: PlaneSegmentation, random: np.random.Generator) -> None:
    times = np.arange(FRAMES) / _RATE
    region = cells.create_roi_table_region("segmented cells", region=list(range(CELLS)))
    dff = DfOverF(name="dff")
    module.add(dff)
    first = dff.create_roi_response_series(
        name="traces", data=random.normal(size=(FRAMES, CELLS)), unit="NA", rois=region, timestamps=times
    )
    for name in ("demixed_trace", "neuropil_trace", "corrected_fluorescence"):
        fluorescence = Fluorescence(name=name)
        module.add(fluorescence)
        again = cells.create_roi_table_region("segmented cells", region=list(range(CELLS)))
        fluorescence.create_roi_response_series(
            name="traces", data=random.normal(size=(FRAMES, CELLS)), unit="NA", rois=again, timestamps=first
        )
    detected = extension_type("OphysEventDetection")(
        data=np.abs(random.normal(size=(FRAMES, CELLS))),
        lambdas=np.full(CELLS, 0.1),
        noise_stds=np.full(CELLS, 0.02),
        unit="N/A",
        rois=cells.create_roi_table_region("segmented cells", region=list(range(CELLS))),
        timestamps=first,
    )
    module.add(detected)
    for axis in "xy":
        module.add(series(f"ophys_motion_correction_{axis}", random.integers(-3, 4, size=FRAMES), "pixels", first))
