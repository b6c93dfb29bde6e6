"""Each document that has code has a test that reads it; the others say here why nothing of them is run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.code_blocks import ROOT, blocks, blocks_of
from tests.test_documents import ALL

# Which tests run a document's blocks, or compare what they show with what the program says.
RUN: Final[Mapping[str, tuple[str, ...]]] = {
    "README.md": ("scenarios/test_document_commands.py", "scenarios/readers/test_readme.py"),
    "docs/administration.md": ("scenarios/test_document_commands.py", "scenarios/system/test_administration.py"),
    "docs/bandwidth.md": ("scenarios/test_document_commands.py",),
    "docs/cache.md": ("scenarios/test_document_commands.py",),
    "docs/container-image.md": ("scenarios/hosts/test_image.py",),
    "docs/digests.md": ("scenarios/test_document_commands.py",),
    "docs/finding.md": ("cli/test_example_documents.py",),
    "docs/from-allensdk.md": ("scenarios/allensdk/test_document.py",),
    "docs/slurm.md": ("scenarios/hosts/test_slurm_itself.py", "scenarios/hosts/test_slurm_deployed.py"),
    "docs/structure-index.md": ("scenarios/test_document_commands.py",),
    "docs/jupyterhub.md": ("scenarios/hubs/test_document.py",),
    "docs/kubernetes.md": ("deploy/test_kubernetes.py", "scenarios/hosts/test_image.py"),
    "docs/mounting.md": ("cli/test_mounting_document.py", "scenarios/test_document_commands.py"),
    "docs/other-hosts.md": ("scenarios/hosts/recipes.py",),
    "docs/outline.md": ("scenarios/test_document_commands.py",),
    "docs/quick-start.md": ("scenarios/readers/test_quick_start.py",),
    "docs/recipes.md": ("scenarios/readers/recipes.py",),
    "docs/s3-replies.md": ("scenarios/test_document_commands.py",),
    "docs/settings.md": ("scenarios/test_document_commands.py",),
    "docs/sharing-data.md": ("scenarios/test_sharing.py", "scenarios/test_document_commands.py"),
    "docs/troubleshooting.md": ("test_troubleshooting.py", "scenarios/test_symptoms.py"),
    "docs/versions.md": ("cli/test_example_documents.py", "scenarios/test_document_commands.py"),
    "docs/working-sets.md": ("scenarios/test_document_commands.py", "scenarios/test_working_sets.py"),
}
# Documents whose code no test runs, and why.
LEFT_OUT: Final[Mapping[str, str]] = {
    "ARCHITECTURE.md": "drawings of what calls what",
    "docs/PERFORMANCE.md": "script/bench measures for hours; a slow test runs its shortest part",
    "docs/RELIABILITY.md": "script/soak and script/fuzz run for as long as is wanted; tests run each for a moment",
    "docs/installing.md": "changes the machine; tests/cli/test_install.py does it in folders of its own",
    "docs/records.md": "needs a program's reads; tests/scenarios/test_records.py records, fetches and cites some",
    "docs/scale.md": "half an hour; in small: tests/benchmarks/test_site.py, tests/scenarios/site/test_scale.py,"
    " tests/scenarios/hosts/test_shared_cache.py",
    "docs/shared-cache.md": "a folder of several hosts; tests/scenarios/test_two_hosts.py has one",
    "docs/site-cache.md": "a machine's set-up; tests/scenarios/site has the same, with both programs",
    "docs/web.md": "servers, a unit; tests/cli/test_web.py, tests/web/test_behind_a_proxy.py, test_systemd.py",
    "docs/mirror.md": "a web server's and a user's settings; tests/scenarios/test_mirror.py has a mirror of its own",
}
JOURNAL: Final = "docs/journal/"  # what was typed on a day, with the program of that day


def documents_with_code() -> list[str]:
    return [name for name in ALL if not name.startswith(JOURNAL) and blocks_of(name)]


@pytest.mark.parametrize("document", sorted(RUN))
def test_the_tests_of_a_document_read_it(document: str) -> None:
    """The tests that are said to run a document's code are there, and name the document."""
    assert blocks_of(document)
    for test in RUN[document]:
        assert Path(document).name in (ROOT / "tests" / test).read_text(encoding="utf-8"), test


def test_each_document_with_code_has_a_test() -> None:
    """A document with code has tests that run it, is left out for a reason, or is read by a test of its own."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    unknown = [name for name in documents_with_code() if name not in {*RUN, *LEFT_OUT}]
    assert [
        name for name in unknown if not any(re.search(rf"\b{re.escape(Path(name).name)}", text) for text in texts)
    ] == []
    assert set(RUN) & set(LEFT_OUT) == set()


def test_blocks_are_found() -> None:
    """A block ends at its own fence, whatever follows; its language and its heading are known."""
    text = (
        "# A\n```sh\nls\n```\ntext\n\n## B\n```\n$ vbnfs x\n# no heading\n```\nvbnfs is a word here\n```python\n```\n"
    )
    found = [(block.language, block.code, block.heading) for block in blocks(text)]
    assert found == [("sh", "ls\n", "A"), ("", "$ vbnfs x\n# no heading\n", "B"), ("python", "", "B")]
