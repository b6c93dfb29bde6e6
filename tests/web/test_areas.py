"""Units and probes by area, of the sessions that filters leave."""

import re
from collections.abc import Iterator, Mapping

import pandas as pd
import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.web.conftest import Visit, visiting
from vbnfs.web.areas_page import areas_of, asked_areas
from vbnfs.web.picked import AREAS

TABLES = {
    "ecephys_sessions": "ecephys_session_id,experience_level,structure_acronyms\n"
    "7,Novel,\"['VISp', 'CA1']\"\n8,Familiar,\"['VISp']\"\n",
    "probes": "ecephys_probe_id,ecephys_session_id,has_lfp_data,structure_acronyms\n"
    "70,7,True,\"['VISp', 'CA1']\"\n71,7,False,['VISp']\n80,8,True,['VISp']\n",
    "units": "unit_id,ecephys_probe_id,ecephys_session_id,structure_acronym,quality,snr\n"
    "1,70,7,VISp,good,3\n2,70,7,CA1,good,1\n3,71,7,VISp,noise,3\n4,80,8,VISp,good,2\n5,80,8,,good,4\n",
}


def serving(tables: Mapping[str, str]) -> FakeS3Server:
    """A server of some tables, by their names."""
    return serve({"0.1.0": {f"project_metadata/{name}.csv": text.encode() for name, text in tables.items()}})


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A dataset of two sessions, three probes and five units, of which one is in no area."""
    with serving(TABLES) as server:
        yield server


@pytest.fixture(scope="module")
def visitor(server: FakeS3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """The page of that dataset; its tables are here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBNFS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        with visiting(server) as visit:
            visit.house.dataset.prefetch(["project_metadata"], progress=False)
            yield visit


def areas(visit: Visit, **asked: str) -> dict[str, list[int]]:
    """The areas of a page in its order, and the numbers of each: sessions, probes, those with LFP, units."""
    text = visit.browser.get("/areas", params=asked).text
    found = re.findall(r'<th scope="row"><a [^>]*>(.*?)</a></th>(.*?)</tr>', text, re.DOTALL)
    return {
        area: [int(one.replace(",", "")) for one in re.findall(r">([\d,]+)</td>", cells)] for area, cells in found
    }


def test_all_sessions(visitor: Visit) -> None:
    """Each area has its sessions, probes, those with LFP, and units; most units first. A unit may be in no area."""
    found = areas(visitor)
    assert found == {"VISp": [2, 3, 2, 3], "CA1": [1, 1, 1, 1], "none": [0, 0, 0, 1]}
    assert list(found) == ["VISp", "CA1", "none"]
    assert "<strong>5 units</strong> on 3 probes, 2 of which have LFP" in visitor.browser.get("/areas").text


def test_of_one_session_and_of_what_filters_leave(visitor: Visit) -> None:
    """The filters are those of the page of sessions, which leads here; a session's row leads to its own areas."""
    novel = {"VISp": [1, 2, 1, 2], "CA1": [1, 1, 1, 1]}
    assert areas(visitor, session="7") == areas(visitor, words="novel") == novel
    assert areas(visitor, **{"f.experience_level": "'Novel'"}) == novel
    assert areas(visitor, session="12") == {}
    sessions = visitor.browser.get("/sessions", params={"words": "novel", "sort": "-experience_level"}).text
    assert 'href="areas?words=novel"' in sessions
    assert 'href="areas?version=0.1.0&amp;session=7"' in sessions


def test_units_by_quality_and_by_a_condition(visitor: Visit) -> None:
    """Only units of a quality, and only those that a condition holds for; what is wrong with one is said."""
    assert areas(visitor, **{"u.quality": "'noise'"})["VISp"] == [2, 3, 2, 1]
    assert areas(visitor, units="snr > 2", **{"u.quality": "'good'"})["CA1"] == [1, 1, 1, 0]
    text = visitor.browser.get("/areas", params={"units": "snrr > 2", "words": "novel"}).text
    assert "near it: snr" in text
    assert '<input type="hidden" name="words" value="novel">' in text


def test_by_each_column(visitor: Visit) -> None:
    """Each column sorts; what is no column leaves the order as it is."""
    for place, column in enumerate(("sessions", "probes", "lfp", "units")):
        up, down = areas(visitor, by=column), areas(visitor, by=f"-{column}")
        numbers = [one[place] for one in up.values()]
        assert numbers == sorted(numbers), column
        assert [one[place] for one in down.values()] == numbers[::-1], column
    assert list(areas(visitor, by="area")) == ["CA1", "VISp", "none"]
    assert list(areas(visitor, by="-area")) == ["none", "VISp", "CA1"]
    assert areas(visitor, by="__class__") == areas(visitor)


def test_an_area_leads_to_its_sessions(visitor: Visit) -> None:
    """There its LFP can be chosen; the filters stay."""
    text = visitor.browser.get("/areas", params={"words": "novel", "units": "snr > 0"}).text
    assert 'href="sessions?words=novel&amp;f.structure_acronyms=%27CA1%27"' in text


def test_a_large_table_is_fetched_when_that_is_asked_for() -> None:
    """Where it is not here, the page says how much is to be fetched, and fetches none of it by itself.

    Nor does it where a link of another page asks.
    """
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    units = TABLES["units"] + "6,80,8,VISp,good,1\n" * 200_000
    with serving(TABLES | {"units": units}) as server, visiting(server) as visit:
        before = visit.browser.get("/areas").text
        fetched_bytes = server.body_bytes
        assert "MiB of them are to be fetched" in before
        assert fetched_bytes < len(units) / 2
        assert areas(visit) == {}
        assert visit.browser.get("/areas?read=yes", headers=link).text.count("MiB of them are to be fetched") == 1
        assert server.body_bytes == fetched_bytes
        assert areas(visit, read="yes")["VISp"] == [2, 3, 2, 200_003]
        assert server.body_bytes > fetched_bytes


def test_a_version_that_does_not_say_it() -> None:
    """A table without areas is a page that says so."""
    with serving(TABLES | {"units": "unit_id,ecephys_session_id\n1,7\n"}) as server, visiting(server) as visit:
        answer = visit.browser.get("/areas", params={"read": "yes"})
        assert answer.status_code == 503
        assert "units has no column structure_acronym" in answer.text


def test_a_probe_counts_once_in_an_area() -> None:
    """Also where its list has the area more than once, as lists by channel have."""
    probes = pd.DataFrame(
        {"ecephys_probe_id": [70], "ecephys_session_id": [7], "has_lfp_data": [True], AREAS: ["['VISp', 'VISp']"]}
    )
    units = pd.DataFrame({"ecephys_session_id": [7, 7], "structure_acronym": ["VISp", None]})
    found = areas_of([7], probes, units, asked_areas([]))
    assert [(row.area, row.probes, row.lfp, row.units) for row in found.rows] == [
        ("VISp", 1, 1, 1),
        ("none", 0, 0, 1),
    ]
    assert areas_of([], probes, units, asked_areas([])).rows == []
