"""The map of an HDF5 file, drawn into a file: SVG, or PNG where Pillow is installed."""

from collections.abc import Callable
from pathlib import Path

from vbnfs.cli.map_drawing import Picture, draw
from vbnfs.cli.map_svg import svg_bytes
from vbnfs.errors import Hdf5Error, UsageError
from vbnfs.hdf5.file_map import FileMap
from vbnfs.host.atomic import output_file
from vbnfs.host.private import users_umask


def writer_for(path: Path) -> Callable[[FileMap], None]:
    """What draws a map into a file, by the end of its name. Raises `UsageError` for another one than .svg and .png.

    Raises `Hdf5Error` where what PNG needs is not installed. So does the writer where the file cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in {".svg", ".png"}:
        raise UsageError(f"--output {path}: the name of a picture ends in .svg or .png")
    to_bytes = svg_bytes if kind == ".svg" else _png_writer()
    mode = 0o666 & ~users_umask()  # as the user has it: for the cache, commands set another

    def write(drawn: FileMap) -> None:
        try:
            with output_file(path, mode=mode) as out:
                out.write(to_bytes(draw(drawn)))
        except OSError as error:
            raise Hdf5Error(f"{path}: cannot be written: {error.strerror}") from error

    return write


def _png_writer() -> Callable[[Picture], bytes]:
    try:
        from vbnfs.cli.map_png import png_bytes  # noqa: PLC0415 - what draws it is an extra
    except ImportError as error:
        raise Hdf5Error(
            "Pillow is not installed, which draws PNG: pip install 'vbnfs[map]', or write .svg"
        ) from error
    return png_bytes
