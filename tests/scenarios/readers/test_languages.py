"""R, Octave and Java read whole arrays and tables; each value is the original's."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from tests.fixtures_mount import Mount
from tests.scenarios.readers.recipes import run_as_user, sections
from tests.scenarios.readers.truth import Truth

pytestmark = pytest.mark.slow

TIMES = {"date_of_acquisition"}
JARS = Path("/usr/share/java")
WAVEFORMS = "units/waveform_mean"  # the largest of a session; two dimensions

RHDF5 = """
library(rhdf5)
arguments <- commandArgs(TRUE)
values <- h5read(arguments[1], arguments[2])
writeBin(as.vector(values), "values", endian = "little")
"""
HDF5R = """
suppressMessages(library(hdf5r))
arguments <- commandArgs(TRUE)
file <- H5File$new(arguments[1], mode = "r")
writeBin(as.vector(file[[arguments[2]]]$read()), "values", endian = "little")
file$close_all()
"""
R_TABLES = """
library(data.table)
arguments <- commandArgs(TRUE)
write.csv(read.csv(arguments[1]), "by-r.csv", row.names = FALSE, na = "")
fwrite(fread(arguments[1]), "by-data.table.csv")
"""
OCTAVE_ARRAY = """
file = fopen("values", "w");
fwrite(file, {kind}(argv(){{1}}, argv(){{2}}), "double");
fclose(file);
"""
OCTAVE_TEXTS = """
printf("%s\\n", texts(argv(){1}, argv(){2}){:});
"""
OCTAVE_LOADS = """
copy = tempname();
system(sprintf("h5copy -i %s -s %s -o %s -d value", argv(){:}, copy));
try
  value = load("-hdf5", copy).value;
  disp("read");
catch
  disp("not read");
end
delete(copy);
"""
SHOWN = "intervals/Natural_Images_Lum_Matched_set_ophys_G_2019_presentations"
OCTAVE_TABLE = """
file = fopen("values", "w");
fwrite(file, csvread(argv(){1}, 1, 0)', "double");
fclose(file);
"""
JHDF5 = """
import ch.systemsx.cisd.hdf5.HDF5Factory;
import ch.systemsx.cisd.hdf5.IHDF5Reader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;

public class ReadArray {
    public static void main(String[] arguments) throws Exception {
        try (IHDF5Reader file = HDF5Factory.openForReading(arguments[0])) {
            double[] values = file.float64().readMDArray(arguments[1]).getAsFlatArray();
            ByteBuffer bytes = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
            bytes.asDoubleBuffer().put(values);
            Files.write(Path.of("values"), bytes.array());
        }
    }
}
"""
HDF_JAVA = """
import static hdf.hdf5lib.HDF5Constants.*;

import hdf.hdf5lib.H5;
import java.nio.file.Files;
import java.nio.file.Path;

public class ReadArray {
    public static void main(String[] arguments) throws Exception {
        long file = H5.H5Fopen(arguments[0], H5F_ACC_RDONLY, H5P_DEFAULT);
        long dataset = H5.H5Dopen(file, arguments[1], H5P_DEFAULT);
        byte[] bytes = new byte[(int) H5.H5Dget_storage_size(dataset)];
        H5.H5Dread(dataset, H5T_IEEE_F64LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes);
        Files.write(Path.of("values"), bytes);
        H5.H5Dclose(dataset);
        H5.H5Fclose(file);
    }
}
"""


def values(folder: Path) -> npt.NDArray[np.float64]:
    """The numbers that a program has left."""
    return np.fromfile(folder / "values", dtype="<f8")


@pytest.mark.parametrize("script", [pytest.param(RHDF5, id="rhdf5"), pytest.param(HDF5R, id="hdf5r")])
def test_r_reads_arrays(script: str, mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """R reads all waveforms of a session, by rhdf5 and by hdf5r."""
    (tmp_path / "read.R").write_text(script)
    program = ("Rscript", "--vanilla", "read.R", mount.path / truth.session_path, WAVEFORMS)
    run_as_user(*program, home=tmp_path, folder=tmp_path)
    assert np.array_equal(values(tmp_path), truth.array(WAVEFORMS).ravel())


@pytest.mark.parametrize("stem", ["units", "probes", "channels", "ecephys_sessions", "behavior_sessions"])
def test_r_reads_tables(stem: str, mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """R reads every table as it was written, by read.csv and by data.table's fread."""
    (tmp_path / "read.R").write_text(R_TABLES)
    path = mount.path / "project_metadata" / f"{stem}.csv"
    run_as_user("Rscript", "--vanilla", "read.R", path, home=tmp_path, folder=tmp_path)
    for by in ("r", "data.table"):
        read = pd.read_csv(tmp_path / f"by-{by}.csv")
        wanted = truth.table(stem)
        for time in TIMES & set(wanted.columns):  # fread takes them for times and writes them anew
            wanted[time], read[time] = (pd.to_datetime(table[time], utc=True) for table in (wanted, read))
        pd.testing.assert_frame_equal(read, wanted, check_dtype=False, rtol=1e-14)


def octave(script: str, *arguments: Path | str, folder: Path) -> str:
    """What a script prints that may use the functions of docs/recipes.md."""
    [recipe] = (section for section in sections() if section.title == "Octave")
    functions, _, _ = recipe.blocks[1][1].partition("\npath = ")
    (folder / "read.m").write_text(functions + script)
    program = ("octave", "--norc", "--no-gui", "--quiet", "read.m", *arguments)
    return run_as_user(*program, home=folder, folder=folder, is_noisy=True)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("numbers", WAVEFORMS),
        ("numbers", "units/spike_times"),
        ("numbers", "processing/running/speed/data"),
        ("numbers", "processing/running/speed/timestamps"),
        ("numbers", "acquisition/EyeTracking/eye_tracking/area"),
        ("numbers", "acquisition/EyeTracking/pupil_tracking/data"),
        ("numbers", "acquisition/EyeTracking/pupil_tracking/timestamps"),  # a soft link
        ("truths", "acquisition/EyeTracking/likely_blink/data"),
        ("numbers", f"{SHOWN}/start_time"),
        ("numbers", f"{SHOWN}/stop_time"),
        ("truths", "intervals/trials/hit"),
        ("numbers", "stimulus/templates/Natural_Images_Lum_Matched_set_ophys_G_2019/data"),  # three dimensions
    ],
)
def test_octave_reads_arrays(kind: str, name: str, mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """Octave reads whole arrays of numbers and of truth values by the recipe's functions."""
    octave(OCTAVE_ARRAY.format(kind=kind), mount.path / truth.session_path, name, folder=tmp_path)
    assert np.array_equal(values(tmp_path), truth.array(name).ravel().astype(float), equal_nan=True)


def test_octave_reads_texts(mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """Octave reads the names of all images in the order in which they were shown."""
    name = f"{SHOWN}/image_name"
    printed = octave(OCTAVE_TEXTS, mount.path / truth.session_path, name, folder=tmp_path)
    assert printed.splitlines() == truth.texts(name)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        (f"{SHOWN}/start_time", "read"),
        (f"{SHOWN}/image_name", "not read"),  # texts of variable length
        (f"{SHOWN}/active", "not read"),  # truth values
        ("general/extracellular_ephys/electrodes/group", "not read"),  # references
    ],
)
def test_what_octave_s_own_reader_reads(name: str, outcome: str, truth: Truth, tmp_path: Path) -> None:
    """Octave's `load -hdf5` reads numbers, and not what the recipe says that it cannot read: on a local disk."""
    printed = octave(OCTAVE_LOADS, truth.originals[truth.session_path], name, folder=tmp_path)
    assert printed == f"{outcome}\n"


def test_octave_reads_tables(mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """Octave's csvread reads every number of the table of units."""
    octave(OCTAVE_TABLE, mount.path / "project_metadata" / "units.csv", folder=tmp_path)
    read = pd.DataFrame(values(tmp_path).reshape(len(truth.units), -1), columns=truth.units.columns)
    numbers = truth.units.select_dtypes("number").astype(float)
    assert len(numbers.columns) > 30
    pd.testing.assert_frame_equal(read[numbers.columns], numbers, check_exact=True)


@pytest.mark.parametrize(
    ("source", "jars"),
    [
        pytest.param(JHDF5, ["sis-jhdf5"], id="JHDF5"),
        pytest.param(HDF_JAVA, ["jarhdf5", "slf4j-api", "slf4j-nop"], id="HDF Java"),
    ],
)
def test_java_reads_arrays(source: str, jars: list[str], mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """Java reads all waveforms of a session, by JHDF5 and by the HDF Group's binding."""
    (tmp_path / "ReadArray.java").write_text(source)
    path = ":".join(str(JARS / f"{jar}.jar") for jar in jars)
    program = ("java", "-cp", path, "ReadArray.java", mount.path / truth.session_path, f"/{WAVEFORMS}")
    run_as_user(*program, home=tmp_path, folder=tmp_path)
    assert np.array_equal(values(tmp_path), truth.array(WAVEFORMS).ravel())
