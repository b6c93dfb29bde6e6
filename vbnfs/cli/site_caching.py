"""`vbnfs site-cache`: configurations of a proxy that keeps, for all of a lab, what passes from the bucket."""

from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import click

from vbnfs.cli.nginx_site import compose_file, nginx_configuration
from vbnfs.cli.nginx_site import units as units_of
from vbnfs.cli.options import EXIT_STATUS, config_of, settings
from vbnfs.cli.site import DIRECTORY, PRIVATE_NETWORKS, Site, unseen_by_units
from vbnfs.cli.trafficserver_site import trafficserver_files
from vbnfs.config.settings import SETTINGS, parse_loopback, parse_size
from vbnfs.errors import InstallError
from vbnfs.s3.addresses import bucket_base

_OF_A_BUCKET: Final = ("dataset", "bucket", "project", "region", "endpoint_url", "ca_bundle")
_LEFT_OUT: Final = tuple(setting.name for setting in SETTINGS if setting.name not in _OF_A_BUCKET)
_FILE: Final = "/etc/vbnfs-site-cache.conf"
_METRICS: Final = "127.0.0.1:9465"
_PORTS: Final = 65536


def _size(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    """A size in bytes, as settings have them: 500G."""
    try:
        return parse_size(text, least_bytes=0)
    except ValueError as error:
        raise click.BadParameter(f"{text}: {error}") from error


def _address(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """A port at an address of this machine's own."""
    try:
        return None if text is None else parse_loopback(text)
    except ValueError as error:
        raise click.BadParameter(f"{text}: {error}") from error


def _listen(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """An address and a port. Without a port nginx would take port 80."""
    address, _, port = text.rpartition(":")
    if not address or not (port.isascii() and port.isdigit() and 0 < int(port) < _PORTS):
        raise click.BadParameter(f"{text}: an address and a port are wanted, such as 10.1.2.3:8090")
    return text


def _networks(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Networks, or single addresses."""
    for text in texts:
        try:
            ip_network(text)
        except ValueError as error:
            raise click.BadParameter(f"a network such as 10.1.0.0/16 is wanted: {error}") from error
    return texts


def _absolute(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """A folder by its whole path: a program that a unit starts has another folder to begin with."""
    if not Path(text).is_absolute():
        raise click.BadParameter(f"{text}: a whole path is wanted, such as {DIRECTORY}")
    return text


@click.group(name="site-cache", epilog=EXIT_STATUS)
def site_cache() -> None:
    """Write what a proxy needs that keeps blocks for a lab.

    Each byte then leaves S3 once for all of you. See docs/site-cache.md.
    """


def _size_option(name: str, default: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        name, f"{name[2:]}_bytes", callback=_size, default=default, show_default=True, metavar="SIZE", help=text
    )


def _directory_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--directory", callback=_absolute, default=DIRECTORY, show_default=True, metavar="DIR", help=text
    )


_OPTIONS: Final = (
    click.option(
        "--listen",
        callback=_listen,
        default="127.0.0.1:8090",
        show_default=True,
        metavar="ADDRESS:PORT",
        help="Where clients reach it.",
    ),
    click.option(
        "--allow",
        "networks",
        callback=_networks,
        multiple=True,
        metavar="NETWORK",
        help="Who may ask; may be repeated.  [default: this machine and private networks]",
    ),
    _directory_option("Where it keeps blocks."),
    _size_option("--size", "100G", "How much of them."),
    _size_option("--slice", "1M", "How much it asks S3 for at a time."),
    settings(*_LEFT_OUT, shown=("dataset",)),
)


def _of_a_site(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a site cache is, whichever program it is."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _site(options: Mapping[str, Any], *, free_bytes: int = 0, metrics: str | None = None) -> Site:
    own = {"listen", "networks", "directory", "size_bytes", "slice_bytes"}
    config = config_of({name: value for name, value in options.items() if name not in own})
    return Site(
        bucket=config.bucket,
        base=bucket_base(config.bucket, config.region, config.endpoint_url),
        listen=options["listen"],
        networks=options["networks"] or PRIVATE_NETWORKS,
        directory=options["directory"],
        size_bytes=options["size_bytes"],
        free_bytes=free_bytes,
        slice_bytes=options["slice_bytes"],
        ca_bundle=None if config.ca_bundle is None else str(config.ca_bundle),
        metrics=metrics,
    )


@site_cache.command(epilog=EXIT_STATUS)
@_of_a_site
@_size_option("--free", "10G", "What it leaves free on that disk.")
@click.option(
    "--metrics",
    callback=_address,
    metavar="ADDRESS:PORT",
    help="Where 'vbnfs site-cache metrics' counts what it does.",
)
def nginx(free_bytes: int, metrics: str | None, **options: Any) -> None:
    """Write an nginx.conf to standard output."""
    click.echo(nginx_configuration(_site(options, free_bytes=free_bytes, metrics=metrics)), nl=False)


@site_cache.command(epilog=EXIT_STATUS)
@click.argument("folder", type=Path)
@_of_a_site
def trafficserver(folder: Path, **options: Any) -> None:
    """Write what Apache Traffic Server needs into a folder."""
    place, site = folder.absolute(), _site(options)
    _write(place, trafficserver_files(site, str(place)))
    if (why := unseen_by_units(site.directory)) is not None:
        click.echo(f"vbnfs: no unit is written, for --directory {site.directory}: {why}", err=True)


@site_cache.command(epilog=EXIT_STATUS)
@click.argument("folder", type=Path)
@_directory_option("Where the configuration has it keep blocks.")
@click.option(
    "--metrics",
    callback=_address,
    default=_METRICS,
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where the configuration has it send its log.",
)
@click.option("--configuration", default=_FILE, show_default=True, metavar="FILE", help="Where nginx.conf will be.")
@click.option("--nginx", default="/usr/sbin/nginx", show_default=True, metavar="FILE", help="The program.")
@click.option(
    "--vbnfs", default="/usr/local/bin/vbnfs", show_default=True, metavar="FILE", help="This program, for metrics."
)
def units(folder: Path, directory: str, metrics: str, configuration: str, nginx: str, vbnfs: str) -> None:
    """Write units of systemd into a folder."""
    counting = f"{vbnfs} site-cache metrics --listen {metrics} --directory {directory.replace('%', '%%')}"
    _write(folder, units_of(configuration, nginx, directory, counting))


def _write(directory: Path, files: Mapping[str, str]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
            click.echo(f"{directory / name}")
    except OSError as error:
        raise InstallError(f"{directory}: {error.strerror or error}") from error


@site_cache.command(epilog=EXIT_STATUS)
@_directory_option("Where the configuration has it keep blocks.")
@click.option(
    "--configuration",
    default="vbnfs-site-cache.conf",
    show_default=True,
    metavar="NAME",
    help="Of nginx.conf, beside it.",
)
def compose(directory: str, configuration: str) -> None:
    """Write a compose file to standard output."""
    click.echo(compose_file(configuration, directory), nl=False)


@site_cache.command(epilog=EXIT_STATUS)
@click.option(
    "--listen",
    default=_METRICS,
    show_default=True,
    callback=_address,
    metavar="ADDRESS:PORT",
    help="Where nginx sends its log, and Prometheus asks.",
)
@click.option(
    "--directory",
    type=Path,
    default=Path(DIRECTORY),
    show_default=True,
    metavar="DIR",
    help="Where nginx keeps blocks, which are counted.",
)
def metrics(listen: str, directory: Path) -> None:
    """Count what an nginx with --metrics does, for Prometheus."""
    from vbnfs.cli.running import run  # noqa: PLC0415 - with the event loop, which the other commands do without
    from vbnfs.daemon.exporting import check_library  # noqa: PLC0415

    check_library()
    from vbnfs.daemon.site_exporter import export  # noqa: PLC0415 - an extra

    run(partial(export, listen, directory / "slices"))
