"""Small files at the top of a mount that keep programs from reading all of it (pure).

They are found by name and not listed: `ls -A`, globs and copies of the mount are without them.

    .trackerignore, .nomedia    GNOME's indexer (LocalSearch, formerly Tracker) leaves the folder out: they are
                                defaults of its setting `ignored-directories-with-content`
    .rgignore                   ripgrep, and so search and quick open in VS Code, leaves the recordings out, which
                                are binary; in the syntax of gitignore(5)
    .gitignore                  the same for ag, which goes by it without a repository, too, for ugrep if it is asked
                                to, and for git itself, where a mount is in a folder of a repository
    CACHEDIR.TAG                programs that make backups leave the folder out where they are asked to leave caches
                                out (https://bford.info/cachedir/): all of it can be fetched again

There is no .ignore: fd goes by it, and would not list recordings by their names either. KDE's indexer, updatedb and
`grep -r` go by no such file: docs/mounting.md says what to do about them.
"""

from collections.abc import Mapping
from typing import Final

CACHEDIR_TAG: Final = "CACHEDIR.TAG"
CACHEDIR_SIGNATURE: Final = b"Signature: 8a477f597d28d172789f06886806bc55\n"
MARKERS: Final[Mapping[str, bytes]] = {
    ".trackerignore": b"",
    ".nomedia": b"",
    ".rgignore": b"# Recordings are binary; searching them would fetch them. 'rg -u' does it all the same.\n*.nwb\n",
    ".gitignore": b"# Recordings are binary; searching them would fetch them. 'ag -u' does it all the same.\n*.nwb\n",
    CACHEDIR_TAG: CACHEDIR_SIGNATURE
    + b"# A mount of vbnfs: all of it can be fetched again. https://bford.info/cachedir/\n",
}
