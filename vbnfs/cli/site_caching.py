"""`vbnfs site-cache`: configurations of a proxy that keeps, for all of a lab, what passes from the bucket."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from vbnfs.cli.nginx_site import PRIVATE_NETWORKS, Site, compose_file, nginx_configuration
from vbnfs.cli.nginx_site import units as units_of
from vbnfs.cli.options import EXIT_STATUS, config_of, settings
from vbnfs.config.settings import SETTINGS, parse_size
from vbnfs.errors import InstallError
from vbnfs.s3.addresses import bucket_base

_OF_A_BUCKET: Final = ("dataset", "bucket", "project", "region", "endpoint_url", "ca_bundle")
_LEFT_OUT: Final = tuple(setting.name for setting in SETTINGS if setting.name not in _OF_A_BUCKET)
_DIRECTORY: Final = "/var/cache/vbnfs-site-cache"
_FILE: Final = "/etc/vbnfs-site-cache.conf"


def _size(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    """A size in bytes, as settings have them: 500G."""
    try:
        return parse_size(text, least_bytes=0)
    except ValueError as error:
        raise click.BadParameter(f"{text}: {error}") from error


@click.group(name="site-cache", epilog=EXIT_STATUS)
def site_cache() -> None:
    """Write what a proxy needs that keeps blocks for a lab.

    Each byte then leaves S3 once for all of you. See docs/site-cache.md.
    """


def _size_option(name: str, default: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        name, f"{name[2:]}_bytes", callback=_size, default=default, show_default=True, metavar="SIZE", help=text
    )


@site_cache.command(epilog=EXIT_STATUS)
@click.option(
    "--listen",
    default="127.0.0.1:8090",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where clients reach it.",
)
@click.option(
    "--allow",
    "networks",
    multiple=True,
    metavar="NETWORK",
    help="Who may ask; may be repeated.  [default: this machine and private networks]",
)
@click.option("--directory", default=_DIRECTORY, show_default=True, metavar="DIR", help="Where it keeps blocks.")
@_size_option("--size", "100G", "How much of them.")
@_size_option("--free", "10G", "What it leaves free on that disk.")
@_size_option("--slice", "1M", "How much it asks S3 for at a time.")
@settings(*_LEFT_OUT, shown=("dataset",))
def nginx(listen: str, networks: tuple[str, ...], directory: str, **options: Any) -> None:
    """Write an nginx.conf to standard output."""
    sizes = {name: options.pop(name) for name in ("size_bytes", "free_bytes", "slice_bytes")}
    config = config_of(options)
    click.echo(
        nginx_configuration(
            Site(
                bucket=config.bucket,
                base=bucket_base(config.bucket, config.region, config.endpoint_url),
                listen=listen,
                networks=networks or PRIVATE_NETWORKS,
                directory=directory,
                **sizes,
                ca_bundle=None if config.ca_bundle is None else str(config.ca_bundle),
            )
        ),
        nl=False,
    )


@site_cache.command(epilog=EXIT_STATUS)
@click.argument("directory", type=Path)
@click.option("--configuration", default=_FILE, show_default=True, metavar="FILE", help="Where nginx.conf will be.")
@click.option("--nginx", default="/usr/sbin/nginx", show_default=True, metavar="FILE", help="The program.")
def units(directory: Path, configuration: str, nginx: str) -> None:
    """Write units of systemd into a folder."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in units_of(configuration, nginx).items():
            (directory / name).write_text(text, encoding="utf-8")
            click.echo(f"{directory / name}")
    except OSError as error:
        raise InstallError(f"{directory}: {error.strerror or error}") from error


@site_cache.command(epilog=EXIT_STATUS)
@click.option(
    "--configuration",
    default="vbnfs-site-cache.conf",
    show_default=True,
    metavar="NAME",
    help="Of nginx.conf, beside it.",
)
def compose(configuration: str) -> None:
    """Write a compose file to standard output."""
    click.echo(compose_file(configuration), nl=False)
