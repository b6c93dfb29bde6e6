"""`vbnfs tree`, `vbnfs map`: what they are asked, and how the answers are shown."""

from pathlib import Path
from typing import Any

import click

from vbnfs.cli import render
from vbnfs.cli.options import EXIT_STATUS, ONLY_OF_A_MOUNT, config_of, given_in, log_to_terminal, settings

_PATH_METAVAR = "PATH[/OBJECT]"


@click.command(epilog=EXIT_STATUS)
@click.argument("path", metavar=_PATH_METAVAR, type=Path)
@click.option("-a", "--attributes", is_flag=True, help="With the values of attributes.")
@click.option("--depth", metavar="N", type=click.IntRange(min=0), help="Show N levels below the top.")
@click.option(
    "--most",
    metavar="N",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Show N names of each group; 0: all.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, all names.")
@settings("verify", *ONLY_OF_A_MOUNT, shown=("dataset", "offline"))
def tree(path: Path, attributes: bool, depth: int | None, most: int, as_json: bool, **options: Any) -> None:
    """Show what is in an HDF5 file, and what of it is cached.

    PATH is a file in a mount or in the dataset, a session's id, or any HDF5 file; OBJECT a group or dataset in it
    (1044385384/units). Only the blocks are fetched that have the structure, not the data: docs/outline.md.
    """
    from vbnfs.cli import outline_text  # noqa: PLC0415
    from vbnfs.cli.hdf5_files import open_hdf5  # noqa: PLC0415
    from vbnfs.hdf5.branches import Wanted  # noqa: PLC0415
    from vbnfs.hdf5.outline import Outline  # noqa: PLC0415

    given, config = given_in(options), config_of(options)
    log_to_terminal("critical")  # what matters is written below
    file = open_hdf5(config, path, Wanted(places=True, values=attributes), given=given)
    outline = Outline(file)
    if as_json:
        render.print_json(outline.as_json(depth=depth))
    else:
        width = render.terminal_width()
        click.echo(outline_text.head(outline))
        for line in outline_text.lines(outline, depth=depth, most=most, width=width):
            click.echo(line)
    file.check()


@click.command("map", epilog=EXIT_STATUS)
@click.argument("path", metavar=_PATH_METAVAR, type=Path)
@click.option("-o", "--output", metavar="FILE", type=Path, help="Draw it into FILE.svg or FILE.png.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@settings("verify", *ONLY_OF_A_MOUNT, shown=("dataset", "offline"))
def map_(path: Path, output: Path | None, as_json: bool, **options: Any) -> None:
    """Show where a file's arrays lie, and what is cached.

    PATH is a file in a mount or in the dataset, a session's id, or any HDF5 file. Colours stand for the groups at the
    top of the file; with an OBJECT, which is a group in it, for what is in that. docs/outline.md shows one.
    """
    from vbnfs.cli import map_files, map_text  # noqa: PLC0415
    from vbnfs.cli.hdf5_files import open_hdf5  # noqa: PLC0415
    from vbnfs.hdf5.branches import Wanted  # noqa: PLC0415
    from vbnfs.hdf5.file_map import FileMap  # noqa: PLC0415

    write = None if output is None else map_files.writer_for(output)
    given, config = given_in(options), config_of(options)
    log_to_terminal("critical")
    file = open_hdf5(config, path, Wanted(places=True), given=given)
    drawn = FileMap(file)
    if write is not None:
        write(drawn)
    if as_json:
        render.print_json(drawn.as_json())
    elif write is None:
        render.print_spans(map_text.lines(drawn, render.terminal_width(), has_colours=render.has_colours()))
    else:
        click.echo(f"{output}  {file.name}")
    file.check()
