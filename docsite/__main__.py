"""`python -m docsite`: draw the pictures, and build the site with them; or put the pictures into docs/pictures."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from docsite.building import ROOT, BuildError, build
from docsite.mounted_pictures import drawn_in_a_mount
from docsite.pictures import drawn

_PICTURES = ROOT / "docs" / "pictures"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / ".site",
    show_default=".site",
    help="Folder to build in; what is in it is deleted.",
)
@click.option(
    "--pictures", "is_to_keep", is_flag=True, help="Draw the pictures into docs/pictures, and build nothing."
)
def main(out: Path, is_to_keep: bool) -> None:
    """Draw the pictures, and build the documentation as a site. Any warning is an error, with status 1."""
    with TemporaryDirectory(prefix="vbnfs-docs-") as name:
        pictures = _PICTURES if is_to_keep else Path(name) / "pictures"
        draw(pictures, Path(name))
        if is_to_keep:  # the site takes those of docs/pictures: drawing them needs a browser
            draw_pages(pictures, Path(name) / "pages")
            click.echo(pictures)
            return
        try:
            first = build(out.resolve(), pictures=pictures)
        except BuildError as error:
            sys.exit(f"{error}\nvbnfs: the site has problems, above")
    click.echo(first.as_uri())


def draw(pictures: Path, work: Path) -> None:
    """Draw all pictures into the folder `pictures`; `work` is an empty folder to work in."""
    performance, at_scale = (
        (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("PERFORMANCE.md", "scale.md")
    )
    mounted = drawn_in_a_mount(work)
    pictures.mkdir(exist_ok=True)
    others = {file: text.encode() for file, text in drawn(performance, at_scale).items()}
    for file, content in {**others, **mounted}.items():
        (pictures / file).write_bytes(content)


def draw_pages(pictures: Path, work: Path) -> None:
    """Draw those that a browser draws into the folder `pictures`; `work` is a folder to make and to work in."""
    from docsite.page_pictures import drawn_in_a_browser  # noqa: PLC0415 - imports what only the tests need

    work.mkdir()
    for file, content in drawn_in_a_browser(work).items():
        (pictures / file).write_bytes(content)


if __name__ == "__main__":
    main()
