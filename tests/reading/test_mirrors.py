"""Which of the servers near a machine is asked for which content."""

from types import SimpleNamespace
from typing import Any, cast

from vbnfs.objects import Content
from vbnfs.reading.mirror import Mirror
from vbnfs.reading.mirrors import Mirrors


class _Server(SimpleNamespace):
    """As much of a `Mirror` as is asked: its name, and whether it has failed."""

    def may_have(self, _content: Content, _known: object) -> bool:
        return not self.is_resting


def servers(*names: str) -> list[Any]:
    return [_Server(name=name, is_resting=False, blocks=0, problem=None) for name in names]


def chosen(mirrors: Mirrors) -> list[str]:
    """The site caches of a thousand contents."""
    contents = [cast(Content, SimpleNamespace(content_id=f"{number}")) for number in range(1000)]
    return [next(mirrors.to_ask(content, None)).name for content in contents]


def mirrors(found: list[Any]) -> Mirrors:
    return Mirrors([], cast("list[Mirror]", found))


def test_contents_are_spread() -> None:
    """Each of several site caches has about as many contents, whatever the order of the list."""
    found = chosen(mirrors(servers("a", "b", "c")))
    assert all(280 < found.count(name) < 390 for name in "abc")
    assert chosen(mirrors(servers("c", "a", "b"))) == found


def test_one_that_is_away_moves_its_contents_alone() -> None:
    """The contents of one that has failed go to the others, and come back; all others stay where they are."""
    three = servers("a", "b", "c")
    before = chosen(mirrors(three))
    three[1].is_resting = True
    meanwhile = chosen(mirrors(three))
    assert [new for old, new in zip(before, meanwhile, strict=True) if old != "b"] == [n for n in before if n != "b"]
    assert {"a", "c"} == set(meanwhile)
    three[1].is_resting = False
    assert chosen(mirrors(three)) == before


def test_a_copy_is_asked_before_a_site_cache() -> None:
    """A mirror comes first, then the content's site cache, then the others; where all rest, none is asked."""
    copy, *site = servers("copy", "a", "b")
    asked = list(Mirrors([copy], site).to_ask(cast(Content, SimpleNamespace(content_id="1")), None))
    assert [server.name for server in asked[:2]] == ["copy", *chosen(mirrors(site))[1:2]]
    assert sorted(server.name for server in asked) == ["a", "b", "copy"]
    for server in site:
        server.is_resting = True
    asked = list(Mirrors([copy], site).to_ask(cast(Content, SimpleNamespace(content_id="1")), None))
    assert [server.name for server in asked] == ["copy"]


def test_one_that_has_begun_to_rest_meanwhile_is_not_asked() -> None:
    """Whether a site cache rests is asked when its turn comes: another read may have found it away."""
    three = servers("a", "b", "c")
    asked = mirrors(three).to_ask(cast(Content, SimpleNamespace(content_id="1")), None)
    first = next(asked)
    second, third = (server for server in three if server is not first)
    second.is_resting = True
    assert list(asked) == [third]


def test_what_is_wrong_is_said_until_it_has_served() -> None:
    """A site cache that has failed says why, also where it rests no more, or never did: it refuses each file."""
    refusing, well = servers("a", "b")
    refusing.problem = "HTTP 403"
    report = mirrors([refusing, well]).site_caches_report()
    assert [each["problem"] for each in report] == ["HTTP 403", None]
