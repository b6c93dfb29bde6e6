"""Taking out of a text what says who somebody is, where something lies, or what is secret (pure).

Three steps, each of which would do for most of it:

1. What is known to be private, by whichever way it is spelled, becomes a mark such as `<user>`.
2. What has the form of a URL, an address or a path becomes a mark, unless it is public.
3. Words that are not of a given vocabulary go, and long numbers. So what is not foreseen cannot stay.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import quote, unquote

from vbnfs.config.datasets import all_datasets

REMOVED: Final = "<removed>"
_PUBLIC_PATHS: Final = frozenset(
    {
        *("/dev/fuse", "/dev/fd", "/etc/fuse.conf", "/etc/resolv.conf", "/etc/wsl.conf"),
        *(
            "/etc/security/limits.conf",
            "/etc/ssl/certs",
            "/etc/ssl/certs/ca-certificates.crt",
            "/proc/self/mountinfo",
        ),
        *("/etc/apparmor.d/fusermount3", "/etc/apparmor.d/local/fusermount3", "/run/vbnfs", "/run", "/tmp"),
        *("/proc/self/mountinfo", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"),
    }
)
# Of versions of systems: what their own words for themselves have besides ours.
_OF_SYSTEMS: Final = frozenset(
    {
        *(
            "debian",
            "gnu",
            "bookworm",
            "trixie",
            "bullseye",
            "ubuntu",
            "lts",
            "fedora",
            "rocky",
            "almalinux",
            "centos",
        ),
        *("stream", "red", "hat", "enterprise", "opensuse", "leap", "tumbleweed", "arch", "alpine", "nixos", "mint"),
        *("amd64", "arm64", "x86_64", "aarch64", "generic", "azure", "aws", "gcp", "microsoft", "standard", "wsl2"),
    }
)
_WORD: Final = re.compile(r"\w+")
_MARK: Final = re.compile(r"<[a-z]+>")
# Each begins where a word does: else a text of one long word would take the square of its length.
_URL: Final = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]+://[^\s<>\"']*")
_BUCKETS: Final = "|".join(re.escape(one.texts["bucket"]) for one in all_datasets({}).values())
_PUBLIC_HOST: Final = re.compile(rf"(?:{_BUCKETS})\.s3\.[a-z0-9-]+\.amazonaws\.com")
_PUBLIC_URL: Final = re.compile(f"https://{_PUBLIC_HOST.pattern}")
_HOST: Final = re.compile(  # with a port, or below a domain that hosts have: of labels that may be words of ours
    r"(?<![\w.-])(?:[\w-]+\.)+(?:[\w-]+:\d{1,5}|"
    r"com|org|net|edu|gov|mil|int|io|ai|eu|uk|de|ch|at|fr|nl|be|it|es|se|no|dk|fi|pl|us|ca|jp|cn|kr|au|il|in|br"
    r"|local|lan|internal|intranet|corp|home|localdomain|arpa|test|example)\b(?![.-]?\w)",
    re.IGNORECASE,
)
_ADDRESSES: Final = (
    re.compile(r"(?<![^\s<>@,;:'\"])[^\s<>@,;:'\"]+@[^\s<>,;:'\"]+"),  # RFC 5322, addr-spec, and more than that
    re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)"),
    re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){4,7}[0-9A-Fa-f]{1,4}(?![\w:])"),  # of hardware, too
    re.compile(r"(?<![\w:])[0-9A-Fa-f:]*::[0-9A-Fa-f:.]*(?:%\w+)?"),  # RFC 4291, 2.2
)
_PATH: Final = re.compile(r"(?<![\w.>])(?<!https:)(?<!https:/)~?/[^\s'\",;:()<>]+")  # public URLs are left by then
_LONGEST_NUMBER: Final = 5  # digits: ports and years, and no numbers of accounts
_LEAST_SPELLED: Final = 3  # characters: shorter ones are not looked for in other spellings


@dataclass(frozen=True)
class Redactor:
    """`known` has what is private, and the mark that takes its place. `vocabulary`: words that may stay, small."""

    known: Mapping[str, str]
    vocabulary: Set[str]

    def clean(self, text: str) -> str:
        """The text without all that."""
        text = self._known_pattern.sub(self._mark_of, text)
        text = _URL.sub(lambda match: match[0] if _PUBLIC_URL.fullmatch(match[0]) else "<url>", text)
        for pattern in _ADDRESSES:
            text = pattern.sub("<address>", text)
        text = _HOST.sub(lambda match: match[0] if _PUBLIC_HOST.fullmatch(match[0]) else "<address>", text)
        text = _PATH.sub(lambda match: match[0] if match[0].rstrip(".") in _PUBLIC_PATHS else "<path>", text)
        return self._without_other_words(text)

    @cached_property
    def _marks(self) -> dict[str, str]:
        """By every spelling of what is known."""
        return {spelled: mark for one, mark in self.known.items() for spelled in _spellings(one)}

    @cached_property
    def _marks_of_small(self) -> dict[str, str]:
        return {spelled.casefold(): mark for spelled, mark in self._marks.items()}

    @cached_property
    def _known_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._marks, key=len, reverse=True)
        return re.compile("|".join(map(_bounded, longest_first)) or r"(?!)", re.IGNORECASE)

    def _mark_of(self, match: re.Match[str]) -> str:
        return self._marks.get(match[0]) or self._marks_of_small.get(match[0].casefold(), REMOVED)

    def _without_other_words(self, text: str) -> str:
        parts, position = list[str](), 0
        for mark in _MARK.finditer(text):
            parts += [self._words_of(text[position : mark.start()]), mark[0]]
            position = mark.end()
        return "".join([*parts, self._words_of(text[position:])])

    def _words_of(self, text: str) -> str:
        plain = "".join(c if c == "\n" or " " <= c <= "~" or c.isalnum() else "?" for c in text)
        return _WORD.sub(lambda match: match[0] if self._may_stay(match[0]) else REMOVED, plain)

    def _may_stay(self, word: str) -> bool:
        if word.isdecimal():
            return len(word) <= _LONGEST_NUMBER
        return word.casefold() in self.vocabulary or word.casefold() in _OF_SYSTEMS


def _bounded(text: str) -> str:
    """A pattern of a text that is not a part of a longer word."""
    before = r"(?<![^\W_])" if text[:1].isalnum() else ""
    after = r"(?![^\W_])" if text[-1:].isalnum() else ""
    return f"{before}{re.escape(text)}{after}"


def _spellings(text: str) -> Iterator[str]:
    """A text as it stands in messages, in URLs, in JSON, in shells."""
    if not text.strip():
        return
    yield text
    if len(text) < _LEAST_SPELLED:
        return
    yield from (repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
    yield from (shlex.quote(text), quote(text, errors="replace"), quote(text, safe="", errors="replace"))
    yield from (spelled for spelled in (unquote(text), text.strip()) if len(spelled) >= _LEAST_SPELLED)
    yield "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
