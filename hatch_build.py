"""What a wheel has besides the package: manual pages and completions, made from the commands as it is built.

They go to `share` in the environment, where pipx finds manual pages, and a packager finds all of it.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SharedFiles(BuildHookInterface[Any]):
    """Adds them to `shared-data` of a wheel; an editable installation has none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the files, and name them for the wheel."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from vbnfs.cli.main import cli  # noqa: PLC0415
        from vbnfs.cli.manual import pages  # noqa: PLC0415
        from vbnfs.cli.shell_scripts import scripts  # noqa: PLC0415 - of the folder that is built

        self._folder = tempfile.TemporaryDirectory()
        texts = {f"share/man/man{name[-1]}/{name}": text for name, text in pages(cli).items()}
        made = scripts()
        texts["share/bash-completion/completions/vbnfs"] = made["bash"]
        texts["share/zsh/site-functions/_vbnfs"] = made["zsh"]
        texts["share/fish/vendor_completions.d/vbnfs.fish"] = made["fish"]
        for number, (place, text) in enumerate(texts.items()):
            path = Path(self._folder.name, str(number))
            path.write_text(text, encoding="utf-8")
            build_data["shared_data"][str(path)] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was written."""
        if version != "editable":
            self._folder.cleanup()
