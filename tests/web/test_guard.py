"""Who may ask the page, and what a browser may do with its answers."""

import re
from importlib.resources import files
from typing import Any
from urllib.parse import urljoin

import pytest

from tests.api.release import SESSION
from tests.fakes.s3_server import FakeS3Server
from tests.web.conftest import ADDRESS, Visit
from vbnfs.web.guard import PROOF, TOKEN


def test_the_token_lets_in_once(visit: Visit) -> None:
    """An address with the token leads to the same one without it, and sets a cookie that no script can read."""
    answer = visit.stranger.get(f"/sessions?a=1&{TOKEN}={visit.keys.token}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "./sessions?a=1")
    cookie = answer.headers["set-cookie"]
    assert {part.strip() for part in cookie.split(";")[1:]} == {"HttpOnly", "SameSite=lax"}
    assert visit.keys.token not in cookie
    assert visit.stranger.get("/").status_code == 200


@pytest.mark.parametrize("query", ["", f"?{TOKEN}=", f"?{TOKEN}=0123", f"?{TOKEN}=é"])
def test_without_the_token_nothing_is_shown(visit: Visit, query: str) -> None:
    """Pages, styles and addresses that are not there: all of them answer 401, and say what to do."""
    for path in ("/", "/static/page.css", "/nothing"):
        answer = visit.stranger.get(path + query)
        assert answer.status_code == 401
        assert "vbnfs web" in answer.text
        assert visit.house.config.project not in answer.text


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9", "127.0.0.1:1", "[::1]:8791", "HUB.example", "hub.example:4"]
)
def test_hosts_of_this_machine(visit: Visit, host: str) -> None:
    """Loopback names count on any port, and those that were allowed."""
    assert visit.browser.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[::2]", "0.0.0.0", ""]
)
def test_a_foreign_name_is_refused(visit: Visit, host: str) -> None:
    """A name of another domain that leads here is refused, with the cookie, too; no redirect leads there."""
    for query in ("", f"?{TOKEN}={visit.keys.token}"):
        assert visit.browser.get(f"/{query}", headers={"host": host}, follow_redirects=False).status_code == 403


@pytest.mark.parametrize(
    "fields",
    [{PROOF: ""}, {PROOF: "0" * 64}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "cross-site"}],
)
def test_other_pages_change_nothing(visit: Visit, fields: dict[str, str]) -> None:
    """A POST of a page of another origin, such as another port of this host, is refused."""
    assert visit.browser.post("/nothing", headers=fields).status_code == 403


@pytest.mark.parametrize(
    "path", ["//elsewhere.example/x", "/https:elsewhere.example", "/javascript:alert(1)", "/a%0d%0aSet-Cookie:%20a=b"]
)
def test_the_token_leads_nowhere_else(visit: Visit, path: str) -> None:
    """However an address with the token is made, it leads to a page of this host, and adds no field to the answer."""
    answer = visit.stranger.get(f"{path}?{TOKEN}={visit.keys.token}", follow_redirects=False)
    assert answer.status_code == 303
    assert urljoin(f"{ADDRESS}/", answer.headers["location"]).startswith(f"{ADDRESS}/")
    assert answer.headers["location"].startswith("./")
    assert answer.headers.get_list("set-cookie") == [answer.headers["set-cookie"]]


def test_a_page_is_a_part_of_no_other(visit: Visit) -> None:
    """A link of another site may lead to a page. As a picture, script, frame or by fetch it is refused there."""
    for site in ("same-site", "cross-site"):
        link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        assert visit.browser.get("/", headers=link).status_code == 200
        parts = [("navigate", dest) for dest in ("iframe", "frame", "embed", "object")]
        parts += [("no-cors", dest) for dest in ("empty", "image", "script", "style")]  # `empty`: also to prefetch
        for mode, dest in (*parts, ("cors", "empty"), ("websocket", "empty")):
            part = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
            assert visit.browser.get("/", headers=part).status_code == 403


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
def test_what_a_link_leads_to_fetches_nothing_large(visit: Visit, server: FakeS3Server, site: str) -> None:
    """Where another page's link leads to tables or a quick look, these are not read: the page has what asks for them.

    Of units by area, `test_a_large_table_is_fetched_when_that_is_asked_for` says so.
    """
    link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    server.forget_requests()
    for path, words in (
        ("/changes?old=0.4.0&new=0.5.0&tables=yes", "Compare the tables"),
        (f"/look/v0.5.0/{SESSION}?look=unit", "Nothing was read for it yet"),
    ):
        assert words in visit.browser.get(path, headers=link).text
        assert not any(one.key.endswith(SESSION) for one in server.requests)
        assert words not in visit.browser.get(path, headers={"sec-fetch-site": "none"}).text
    assert any(one.key.endswith(SESSION) for one in server.requests)


def test_what_can_be_asked_for(visit: Visit) -> None:
    """A POST examines, plans, fetches or pins, ends that or begins it anew, verifies, deletes from the cache."""
    guard: Any = visit.browser.app
    posts = [route.path for route in guard._app.routes if "POST" in route.methods]
    assert sorted(posts) == [
        "/doctor",
        "/evict",
        "/jobs",
        "/jobs/{number}/again",
        "/jobs/{number}/end",
        "/plan",
        "/verify",
    ]
    assert {method for route in guard._app.routes for method in route.methods} == {"GET", "HEAD", "POST"}


def test_what_changes_something_asks_first() -> None:
    """Buttons that fetch, pin, end or delete ask first, those of a plan by the plan. Others leave all as it is."""
    asking, others = [], []
    for template in sorted((files("vbnfs.web") / "templates").iterdir(), key=lambda one: one.name):
        for tag in re.findall(r"<[^<]*hx-post.*", template.read_text(encoding="utf-8")):
            [address] = re.findall(r"""hx-post="{{ (?:root }}(\w+)|this_address\('(\w+)'\))""", tag)
            (asking if "hx-confirm" in tag else others).append((template.name, "".join(address)))
    assert asking == [("file.html", "evict"), *2 * [("jobs.html", "jobs")]]
    assert others == [
        *(("file.html", "verify"), ("findings.html", "doctor"), ("parts.html", "plan"), ("plan.html", "jobs")),
        ("sessions.html", "plan"),
    ]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods(visit: Visit, method: str) -> None:
    """Methods that the page does not use are refused before any view is asked."""
    assert visit.browser.request(method, "/").status_code == 403


def test_what_a_browser_may_do(visit: Visit) -> None:
    """Each answer, also one that refuses, forbids other origins, frames and guessing at types."""
    for answer in (visit.browser.get("/"), visit.browser.get("/nothing"), visit.stranger.get("/")):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"


def test_pages_name_no_other_address(visit: Visit) -> None:
    """Addresses of the page itself are relative, so that it may stand below any prefix; none leads elsewhere."""
    text = visit.browser.get("/").text
    assert 'href="/' not in text
    assert 'src="/' not in text
    assert ADDRESS not in text
