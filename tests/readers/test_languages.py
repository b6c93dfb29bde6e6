"""R, Octave and Java read whole arrays and tables; each value is the original's."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from tests.fixtures_mount import Mount
from tests.readers.recipes import run_as_user
from tests.readers.truth import Truth

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
data = load("-hdf5", argv(){1}, "stimulus");
images = struct2cell(struct2cell(data.stimulus.templates){1});
file = fopen("values", "w");
for i = 1:numel(images)
  fwrite(file, images{i}, "double");
end
fclose(file);
"""
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


def test_octave_reads_arrays(mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """Octave's own reader reads all images that were shown."""
    (tmp_path / "read.m").write_text(OCTAVE_ARRAY)
    program = ("octave", "--norc", "--no-gui", "--quiet", "read.m", mount.path / truth.session_path)
    run_as_user(*program, home=tmp_path, folder=tmp_path, is_noisy=True)
    images = truth.images()
    assert np.array_equal(values(tmp_path), np.concatenate([images[name].ravel() for name in sorted(images)]))


def test_octave_reads_tables(mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """Octave's csvread reads every number of the table of units."""
    (tmp_path / "read.m").write_text(OCTAVE_TABLE)
    program = ("octave", "--norc", "--no-gui", "--quiet", "read.m", mount.path / "project_metadata" / "units.csv")
    run_as_user(*program, home=tmp_path, folder=tmp_path, is_noisy=True)
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
