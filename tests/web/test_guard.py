"""Who may ask the page, and what a browser may do with its answers."""

import pytest

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


def test_the_token_leads_nowhere_else(visit: Visit) -> None:
    """An address whose last part looks like one of another host leads to this page all the same."""
    answer = visit.stranger.get(f"/https:elsewhere.example?{TOKEN}={visit.keys.token}", follow_redirects=False)
    assert answer.headers["location"].startswith("./https%3Aelsewhere.example")


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
