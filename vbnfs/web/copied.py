"""Lines that are copied from the page into other programs: they open what the page shows, as it was set (pure).

Another program of this user reads the same settings file. What was given to the page besides, by options and by
variables, has to stand in the line.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vbnfs.config.environment import default_config_file
from vbnfs.config.settings import SEPARATOR
from vbnfs.config.sources import COMMAND_LINE, DATASET, ENVIRONMENT, FILE, LoadedSettings, SettingValue

# Which dataset it is, where it comes from, and where it is kept.
_WHERE: Final = (
    *("dataset", "bucket", "project", "region", "endpoint_url", "ca_bundle", "mirror", "site_cache", "versions"),
    *("cache_dir", "cache_also", "trusted_users"),
)


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines with the settings that were `given`, as text by name, and the settings file, if one was named."""

    given: Mapping[str, str] = field(default_factory=dict)
    config_file: str | None = None

    @classmethod
    def of(cls, loaded: LoadedSettings) -> "Lines":
        """With what was given to this program alone that says which dataset is read, and where it is kept."""
        own = {one.setting.name: one for one in loaded.values if one.source.kind in {COMMAND_LINE, ENVIRONMENT}}
        files = {one.source.name for one in loaded.values if one.source.kind == FILE}
        files |= {str(one.source.file) for one in loaded.values if one.source.kind == DATASET}
        named = sorted(files - {str(default_config_file())})
        config_file = os.path.abspath(named[0]) if named else None  # noqa: PTH100 - resolve() would follow links
        return cls({name: _text(own[name]) for name in _WHERE if name in own}, config_file)

    @property
    def dataset(self) -> str:
        """The dataset in Python."""
        given = dict(self.given) | ({} if self.config_file is None else {"config_file": self.config_file})
        name = [repr(given.pop("dataset"))] if "dataset" in given else []
        return f"vbnfs.Dataset({', '.join([*name, *(f'{one}={text!r}' for one, text in given.items())])})"

    def python(self, rest: str) -> str:
        """A line of Python that needs no other: `rest` is of the dataset, such as `latest`."""
        return f"import vbnfs; {self.dataset}.{rest}"

    def command(self, words: str) -> str:
        """A command of vbnfs for a shell; `words` are quoted already."""
        given = {} if self.config_file is None else {"config": self.config_file}
        options = (
            f" --{one.replace('_', '-')} {shlex.quote(text)}" for one, text in (given | dict(self.given)).items()
        )
        return f"vbnfs {words}{''.join(options)}"


def _text(found: SettingValue) -> str:
    """A value as text that means the same in any folder."""
    if isinstance(found.value, Path):
        return str(found.value)
    if found.setting.name == "cache_also":
        return SEPARATOR.join(map(str, found.value))
    return found.source.texts[found.setting.name]
