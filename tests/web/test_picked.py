"""What is picked on the page: sessions, and the LFP that belongs to chosen areas."""

from collections.abc import Iterator

import pytest

from tests.fakes.dataset import serve
from tests.fakes.store import Data
from vbnfs.config.sources import load_config
from vbnfs.errors import UsageError
from vbnfs.web.house import House
from vbnfs.web.picked import picked_of
from vbnfs.web.sessions_page import asked_of, find

FOLDER = "behavior_ecephys_sessions"
SESSIONS = [f"{FOLDER}/{number}/ecephys_session_{number}.nwb" for number in (7, 8)]
LFP = [f"{FOLDER}/{number}/probe_probe{name}_lfp.nwb" for number, name in ((7, "A"), (7, "B"), (8, "A"))]
TABLES = {
    "ecephys_sessions": "ecephys_session_id,mouse_id,genotype,experience_level,structure_acronyms,file_id\n"
    "7,1,Sst-IRES-Cre/wt,Novel,\"['VISp', 'CA1']\",{0}\n8,2,Vip-IRES-Cre/wt,Novel,\"['VISpm']\",{1}\n",
    "probes": "ecephys_probe_id,ecephys_session_id,name,structure_acronyms,file_id\n"
    "70,7,probeA,['VISp'],{2}\n71,7,probeB,['CA1'],{3}\n80,8,probeA,['VISpm'],{4}\n",
}


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A dataset of two sessions, three probes and their LFP."""
    files: dict[str, Data] = {name: name.encode() for name in (*SESSIONS, *LFP)}
    numbers = range(len(files))  # as the manifest counts data files
    files |= {f"project_metadata/{name}.csv": text.format(*numbers).encode() for name, text in TABLES.items()}
    with serve({"0.1.0": files}) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        house = House(load_config(command_line={}), examine=list)
        yield house
        house.close()


def places(house: House, form: dict[str, list[str]], *query: tuple[str, str]) -> list[str]:
    """The files that a form picks on the page with a query, below their version's folder."""
    found = house.places(picked_of(form), asked_of(query))
    return [place.removeprefix("manifests/v0.1.0/") for place in found]


def test_lfp_is_of_none_of_all_or_of_the_chosen_areas(house: House) -> None:
    """Areas are those of probes, by their whole names: VISp is not VISpm."""
    assert places(house, {"session": ["7"]}) == [SESSIONS[0]]
    assert places(house, {"session": ["7"], "lfp": ["yes"]}) == [SESSIONS[0], LFP[0], LFP[1]]
    area = ("f.structure_acronyms", "'VISp'")
    assert places(house, {"session": ["7", "8"], "lfp": ["areas"]}, area) == [SESSIONS[0], SESSIONS[1], LFP[0]]


def test_all_that_were_found(house: House) -> None:
    """Without naming them: Novel sessions of Sst mice with their LFP of VISp, as a person asks for them."""
    query = (("words", "sst novel"), ("f.experience_level", "'Novel'"), ("f.structure_acronyms", "'VISp'"))
    assert places(house, {"all": ["1"], "lfp": ["areas"]}, *query) == [SESSIONS[0], LFP[0]]
    name, table = house.table(None, "sessions")
    assert find(table, asked_of(query), name=name).session_ids == [7]


@pytest.mark.parametrize(
    "form",
    [
        {"lfp": ["../x"]},
        {"session": ["7; rm"]},
        {"session": ["٧"]},
        {"session": ["9" * 5000]},
        {"pin": ["../x"]},
        {"pin": ["-x"]},
    ],
)
def test_what_no_page_sends_is_refused(form: dict[str, list[str]]) -> None:
    """A form that was made by hand is refused before anything is looked up."""
    with pytest.raises(UsageError):
        picked_of(form)


@pytest.mark.parametrize(
    ("form", "query", "words"),
    [
        ({}, (), "no session with files is picked"),
        ({"session": ["12345"]}, (), "no session with files is picked"),
        ({"all": ["1"]}, (("words", "nowhere"),), "no session with files is picked"),
        ({"all": ["1"]}, (("query", "mouse_id >"),), "invalid syntax"),
        ({"all": ["1"]}, (("query", "mouse > 1"),), "no column mouse"),
    ],
)
def test_what_picks_nothing_is_said(
    house: House, form: dict[str, list[str]], query: tuple[tuple[str, str], ...], words: str
) -> None:
    """A plan of no files is none: the reason is given."""
    with pytest.raises(UsageError, match=words):
        places(house, form, *query)
