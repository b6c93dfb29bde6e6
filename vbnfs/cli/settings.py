"""`vbnfs settings`: every setting with its value, and where that came from."""

from pathlib import Path
from typing import Any

import click

from vbnfs.cli import options, render
from vbnfs.config.datasets import MirrorPlace
from vbnfs.config.settings import SEPARATOR, SETTING_BY_NAME, Setting, parse_rate
from vbnfs.config.sources import DATASET, FILE, SettingValue
from vbnfs.rate import rate_text


@click.command(epilog=options.EXIT_STATUS)
@click.option("--json", "as_json", is_flag=True, help="As JSON: sizes in bytes, times in seconds.")
@options.settings(shown=(*SETTING_BY_NAME, "config"))
def settings(as_json: bool, **given: Any) -> None:
    """Show all settings, and where each value comes from.

    Each is an option of the commands that use it, a mount option (-o cache_size=500G), a variable
    (VBNFS_CACHE_SIZE=500G) and a key of the TOML file. The options here show what would hold with them.
    """
    loaded = options.settings_of(given)
    if as_json:
        values = {found.setting.name: _as_json(found) for found in loaded.values}
        render.print_json({"settings": values, "datasets": list(loaded.datasets)})
        return
    rows = [(found.setting.name, _text(found.setting, found.value), _origin(found)) for found in loaded.values]
    render.print_table(("setting", "value", "from"), rows)
    render.print_line(f"datasets: {', '.join(loaded.datasets)}")


def _text(setting: Setting, value: Any) -> str:
    """A value as a person would type it; for none, what holds instead."""
    if value is None or value == ():
        return setting.unset or "-"
    if isinstance(value, tuple):
        return SEPARATOR.join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if setting.parse is parse_rate:
        return rate_text(value)
    if setting.field.endswith("_bytes"):
        return render.size(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _origin(found: SettingValue) -> str:
    """The kind of source, and which file or dataset."""
    source = found.source
    return f"{source.kind} {source.name}" if source.kind in {FILE, DATASET} else source.kind


def _as_json(found: SettingValue) -> dict[str, Any]:
    value = found.value
    if isinstance(value, tuple):
        value = [str(one) for one in value]
    value = str(value) if isinstance(value, Path | MirrorPlace) else value
    return {"value": value, "from": found.source.kind, "name": found.source.name_of(found.setting) or None}
