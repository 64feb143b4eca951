"""The page in a real browser, as people use it."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from workers.serving.application import make_application
from workers.serving.retrieval import Retrieval


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(retrieval: Retrieval) -> Iterator[str]:
    """A server on the loopback interface."""
    application = make_application(retrieval.settings)
    application.state.retrieval = retrieval
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A window in which nothing may go wrong unnoticed."""
    faults: list[str] = []
    context = browser.new_context(base_url=address, permissions=["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    yield opened
    context.close()
    # A browser reports every page with an error status; the one test that asks for it says so.
    assert [fault for fault in faults if "422" not in fault] == []


def bring(page: Page, file: Path) -> None:
    page.goto("/")
    page.set_input_files("#image", file)
    page.wait_for_url("**upload=**")


def test_a_picture_is_brought_filtered_and_asked_on(page: Page, archive: Path) -> None:
    bring(page, archive / "knee" / "knee-001.dcm")
    expect(page.locator(".name")).to_have_text("knee-001.dcm")
    page.get_by_label("in all classes").check()
    page.wait_for_url("**no_class_prediction=true**")
    page.get_by_text("Label", exact=True).click()
    page.locator("#filters [name=label][value=knee]").check()
    page.wait_for_url("**label=knee**")
    hits = page.locator(".hit")
    expect(hits).to_have_count(3)
    expect(hits.first).to_contain_text("labelled knee")
    asked = page.url
    hits.nth(1).get_by_text("ask with this").click()
    page.wait_for_url("**like=**")
    page.go_back()
    assert page.url == asked
    expect(hits).to_have_count(3)
    hits.nth(1).get_by_text("more like this").click()
    expect(page.get_by_text("And like")).to_be_visible()
    expect(hits).to_have_count(2)
    hits.nth(1).get_by_text("less like this").click()
    expect(page.get_by_text("Not like")).to_be_visible()
    expect(hits).to_have_count(1)
    page.locator(".remove").first.click()
    expect(page.locator(".remove")).to_have_count(1)
    page.locator(".remove").first.click()
    expect(hits).to_have_count(3)
    assert sorted(parse_qsl(urlsplit(page.url).query)) == sorted(parse_qsl(urlsplit(asked).query))


def test_the_address_is_the_whole_question(page: Page, browser: Browser, address: str, archive: Path) -> None:
    bring(page, archive / "eye" / "eye-000.dcm")
    page.locator(".hit").first.get_by_text("ask with this").click()
    page.wait_for_url("**like=**")
    colleague = browser.new_context().new_page()
    colleague.goto(page.url)
    assert colleague.locator("#answer").inner_text() == page.locator("#answer").inner_text()
    colleague.context.close()


def test_pictures_are_dropped_and_pasted(page: Page, archive: Path) -> None:
    for event, carrier in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.goto("/")
        content = list((archive / "chest" / "chest-001.dcm").read_bytes())
        page.evaluate(
            """([event, carrier, content]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(content)], "brought.dcm"));
                const made = new Event(event, { bubbles: true, cancelable: true });
                Object.defineProperty(made, carrier, { value: transfer });
                document.body.dispatchEvent(made);
            }""",
            [event, carrier, content],
        )
        page.wait_for_url("**upload=**")
        expect(page.locator(".name")).to_have_text("brought.dcm")


def test_a_frame_is_chosen_and_a_part_of_it(page: Page, archive: Path) -> None:
    cine = next(path for path in archive.rglob("*.dcm") if "cine" in path.name or "multi" in path.name)
    bring(page, cine)
    frame = page.get_by_label("Frame")
    frame.focus()
    page.keyboard.press("End")
    page.wait_for_url("**frame=4**")
    box = page.locator("#query").bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 140, steps=4)
    page.mouse.up()
    page.wait_for_url("**crop=**")
    page.get_by_text("The whole picture again").click()
    page.wait_for_url(lambda url: "crop" not in url)
    assert "frame=4" in page.url


def test_a_hit_is_enlarged_beside_the_query_and_copied(page: Page, archive: Path) -> None:
    bring(page, archive / "knee" / "knee-001.dcm")
    hit = page.locator(".hit").first
    hit.locator(".enlarge").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("img")).to_have_count(2)
    expect(dialog.locator("figcaption").last).to_contain_text("1.")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    hit.locator("summary").click()
    hit.get_by_role("button", name="copy").first.click()
    expect(page.locator("#said")).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == hit.locator("code").first.inner_text()


def test_far_hits_are_cut_off(page: Page, archive: Path) -> None:
    bring(page, archive / "knee" / "knee-001.dcm")
    page.get_by_label("in all classes").check()
    page.wait_for_url("**no_class_prediction=true**")
    before = page.locator(".hit").count()
    within = page.locator("#within")
    within.focus()
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    page.wait_for_url("**within=**")
    assert 0 < page.locator(".hit").count() < before
    page.get_by_text("all distances").click()
    expect(page.locator(".hit")).to_have_count(before)


def test_an_answer_is_taken_away(page: Page, archive: Path) -> None:
    bring(page, archive / "knee" / "knee-001.dcm")
    for kind in ("CSV", "JSON", "Sheet"):
        with page.expect_download() as download:
            page.get_by_role("link", name=kind, exact=True).click()
        assert download.value.path().stat().st_size > 100


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1280, "dark")])
def test_it_is_readable_by_everybody(page: Page, archive: Path, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto("/")
    assert Axe().run(page).violations_count == 0
    bring(page, archive / "knee" / "knee-001.dcm")
    for summary in page.locator("summary").all()[:6]:
        summary.click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_cannot_be_read_is_said(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    page.goto("/")
    page.set_input_files("#image", tmp_path / "notes.txt")
    expect(page.get_by_role("alert")).to_contain_text("notes.txt: not an image")
    page.get_by_text("Begin anew").click()
    expect(page.get_by_text("Which stored pictures look like yours?")).to_be_visible()
