"""`thistledown top --web`: who is answered and who is not, and the page in a real browser."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from thistledown import _web

import browser
from support import PATIENCE
from watched import watched


@contextlib.contextmanager
def served(folder, *orders):
    """A program that has done these, and its page."""
    with watched(folder, *orders) as program, _web.Page(program.pid, 0, 0.2) as page:
        thread = threading.Thread(target=page.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield program, page
        finally:
            page.shutdown()
            thread.join()


def asked(page, path, method="GET", body=None, **headers):
    """The status, the headers and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", page.server_port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def asked_in_bytes(page, path):
    """The same for a path that the standard library's client does not send."""
    with socket.create_connection(("127.0.0.1", page.server_port), PATIENCE) as connection:
        host = f"Host: 127.0.0.1:{page.server_port}"
        connection.sendall(f"GET {path} HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = http.client.HTTPResponse(connection)
        with contextlib.closing(answer):
            answer.begin()
            return answer.status, answer.headers, answer.read().decode()


def test_who_knows_the_address_sees_the_page_what_it_shows_and_numbers(tmp_path):
    with served(tmp_path, "wait", "fail") as (program, page):
        status, headers, text = asked(page, f"/{page.token}/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        status, _, text = asked(page, f"/{page.token}/view?after=0")
        view = json.loads(text)
        assert (status, view["pid"]) == (200, program.pid)
        assert "waiter" in [row["name"] for row in view["seen"]["tasks"]]
        status, _, text = asked(page, f"/{page.token}/metrics")
        assert status == 200
        assert 'thistledown_tasks_failed_total{place="workers"} 1\n' in text
        assert asked(page, f"/{page.token}/burn")[0] == 404


def test_the_page_is_all_in_one():
    page = _web.Page.text(None, "a-nonce").decode()
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["data:,"]
    assert re.findall(r"<(?:script|style)(.*?)>", page) == [' nonce="a-nonce"'] * 2
    assert not re.search(r"https?://|@import|url\(|import\(|innerHTML|NONCE", page)


OTHERS = {
    "another name": {"Host": "evil.example:80"},
    "another port": {"Host": "127.0.0.1:1"},
    "another page": {"Origin": "http://evil.example"},
    "no page": {"Origin": "null"},
    "a frame of another site": {"Sec-Fetch-Site": "cross-site"},
    "another port of this machine": {"Sec-Fetch-Site": "same-site"},
}


@pytest.mark.parametrize("headers", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("path", ["", "view", "metrics", "ask"])
def test_who_comes_another_way_is_refused(tmp_path, path, headers):
    page = _web.Page(1, 0, 1.0)
    with page:
        thread = threading.Thread(target=page.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        method = "POST" if path == "ask" else "GET"
        given = {name.replace("-", "_"): value for name, value in headers.items()}
        status, answered, text = asked(page, f"/{page.token}/{path}", method, "{}", **given)
        page.shutdown()
        thread.join()
    assert status == 403
    assert page.token not in text + str(answered)


@pytest.mark.parametrize("token", ["", "x", "view", "%C3%A9", "é".encode().decode("latin-1")])
def test_without_the_token_nothing_is_told(token):
    page = _web.Page(1, 0, 1.0)
    with page:
        thread = threading.Thread(target=page.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        answers = []
        for path in ("/", f"/{token}", f"/{token}/", f"/{token}/view", f"/{page.token[:-1]}/view", f"/{page.token}x/"):
            answers.append(asked_in_bytes(page, path) if not path.isascii() else asked(page, path))
        answers.append(asked(page, f"/{page.token}/", Host=f"127.0.0.1:{page.server_port}", Origin="https://x.example"))
        page.shutdown()
        thread.join()
    assert {status for status, _, _ in answers} == {403}
    assert all(page.token not in text for _, _, text in answers)
    assert page.server_address[0] == "127.0.0.1"


def test_only_the_page_can_end_a_task(tmp_path):
    with served(tmp_path, "wait") as (program, page):
        view = json.loads(asked(page, f"/{page.token}/view")[2])
        about = next(row["id"] for row in view["seen"]["tasks"] if row["name"] == "waiter")
        body, path = json.dumps({"cancel": about}), f"/{page.token}/ask"
        origin = f"http://127.0.0.1:{page.server_port}"
        assert asked(page, path, "POST", body, Origin=origin)[0] == 403, "a form could send this"
        assert asked(page, path, "POST", body, X_Thistledown="asked")[0] == 403
        for wrong in ("[]", "{}", '{"view": {}}', '{"cancel": 3}', "{" * 5000):
            assert asked(page, path, "POST", wrong, Origin=origin, X_Thistledown="asked")[0] == 400
        status, _, text = asked(page, path, "POST", body, Origin=origin, X_Thistledown="asked")
        assert (status, "told to end" in text) == (200, True)
        program.tells(b"ended waiter cancelled\n")


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    with watched(tmp_path, "wait") as program:
        command = [sys.executable, "-m", "thistledown", "top", "--web", str(program.pid)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
            try:
                address = re.search(r"http://127\.0\.0\.1:(\d+)/(\S+)/", server.stdout.readline())
                connection = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=PATIENCE)
                with contextlib.closing(connection):
                    connection.request("GET", f"/{address[2]}/view")
                    assert json.loads(connection.getresponse().read())["pid"] == program.pid
                server.send_signal(signal.SIGINT)
                _, errors = server.communicate(timeout=PATIENCE)
            finally:
                server.kill()
        assert (server.returncode, errors) == (130, "")


# --- in a real browser ------------------------------------------------------------------------------------------


@pytest.fixture
def page_in_browser():
    """A browser; without one the test is skipped, but where one has to be."""
    if browser.path() is None:
        assert not os.environ.get("THISTLEDOWN_NEEDS_BROWSER"), "scripts/browser.sh has installed no browser"
        pytest.skip("no browser is installed here: scripts/browser.sh installs one, or says why not")
    with browser.Browser() as opened:
        yield opened


def text_of(page, selector):
    return f"[...document.querySelectorAll({json.dumps(selector)})].map((found) => found.textContent)"


def test_the_page_shows_a_running_program_and_ends_a_task_of_it(tmp_path, page_in_browser):
    seen = page_in_browser
    with served(tmp_path, "wait", "hold") as (program, page):
        seen.goes_to(page.address)
        seen.waits_for("document.body && document.body.dataset.received > 1")
        program.does("work", "fail", "work")
        seen.waits_for("document.getElementById('timeline').dataset.spans >= 3")
        assert seen.evaluates("document.getElementById('timeline').dataset.workers") == "2"
        assert int(seen.evaluates("document.getElementById('timeline').dataset.drawn")) >= 4, "and what runs now"
        names = seen.evaluates(text_of(seen, "#tasks td.name"))
        assert {"waiter", "held"} <= set(names)
        assert "ValueError: bad <input>" in seen.waits_for(
            f"{text_of(seen, '#failures td.bad')}.length && {text_of(seen, '#failures td.bad')}"
        )
        painted = (
            "(() => { const drawn = document.getElementById('timeline'); return new Set(new Uint32Array("
            "drawn.getContext('2d').getImageData(0, 0, drawn.width, drawn.height).data.buffer)).size; })()"
        )
        assert seen.evaluates(painted) > 3, "bars of several colours"
        seen.evaluates(
            "[...document.querySelectorAll('#tasks td.name')].find((td) => td.textContent == 'waiter').click()"
        )
        assert "recv from channel 1" in seen.waits_for("document.getElementById('opened').open && words.textContent")
        seen.evaluates("document.getElementById('back').click()")
        press = "[...document.querySelectorAll('#tasks tr')].find((tr) => tr.textContent.startsWith('waiter'))"
        seen.evaluates(f"{press}.querySelector('button').click()")
        assert seen.waits_for("document.getElementById('asked').open && question.textContent") == "cancel waiter?"
        seen.evaluates("document.getElementById('yes').click()")
        program.tells(b"ended waiter cancelled\n")
        seen.waits_for(f"!{text_of(seen, '#tasks td.name')}.includes('waiter')")


def test_the_page_shows_actors_and_their_mailboxes(tmp_path, page_in_browser):
    seen = page_in_browser
    with served(tmp_path, "boxes") as (_, page):
        seen.goes_to(page.address)
        seen.waits_for(f"document.body && {text_of(seen, '#actors td.name')}.length == 4")
        assert seen.evaluates(text_of(seen, "#actors td.name"))[:2] == ["Account", "alone"]
        row = "[...document.querySelectorAll('#actors tr')].find((tr) => tr.textContent.startsWith('alone'))"
        cells = seen.waits_for(f"{row}.textContent.includes('running') && [...{row}.cells].map((td) => td.textContent)")
        assert (cells[1], cells[5], cells[6]) == ("Account", "2 of 100000", "1")
        assert "messages unanswered" in seen.evaluates("document.getElementById('cards').textContent")
        seen.evaluates("document.querySelector('#actors td.name').click()")
        assert "Account.opens" in seen.waits_for("document.getElementById('opened').open && words.textContent")


def test_the_page_says_when_the_program_is_gone(tmp_path, page_in_browser):
    seen = page_in_browser
    with served(tmp_path, "wait") as (program, page):
        seen.goes_to(page.address)
        seen.waits_for("document.body && document.body.dataset.received > 0")
        program.process.kill()
        said = seen.waits_for("document.getElementById('trouble').className && trouble.textContent")
        assert f"process {program.pid}" in said


def test_another_page_cannot_read_it(tmp_path, page_in_browser):
    seen = page_in_browser
    with served(tmp_path, "wait") as (_, page), served_file(tmp_path) as address:
        seen.goes_to(address)
        seen.waits_for("document.title == 'another'")
        tried = f"fetch({json.dumps(page.address + 'view')}).then(() => 'read', () => 'refused')"
        assert seen.evaluates(tried) == "refused"
        sent = f"fetch({json.dumps(page.address + 'view')}, {{mode: 'no-cors'}}).then(() => 'read', () => 'refused')"
        assert seen.evaluates(sent) == "refused"


@contextlib.contextmanager
def served_file(folder):
    """A page of somebody else, at another port."""
    import functools
    import http.server

    (folder / "index.html").write_text("<title>another</title>")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
