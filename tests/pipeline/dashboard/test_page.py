"""The page in a real browser, over a node whose frames the test makes."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator

import pytest
from simulated import START_NS, Node, decoded

from pipeline.dashboard import events, pictures
from pipeline.dashboard.pictures import Composite
from stages.composite import compose

HOSTILE = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>"


class Visit:
    """A page that was opened, and what went wrong on it."""

    def __init__(self, browser, node: Node, width: int = 1440, theme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.on("request", self._asked)
        self._origin = node.url.removesuffix("/dashboard")
        self.page.goto(node.url)
        self.page.wait_for_selector(".stream")

    def _asked(self, request) -> None:
        if not request.url.startswith((f"{self._origin}/", "blob:")):
            self.wrong.append(f"asked for {request.url}")

    def figure(self, name: str, stream: int = 0) -> float | None:
        """The exact value of a figure."""
        cell = self.page.locator(".stream").nth(stream).locator(f'[data-figure="{name}"]')
        text = cell.get_attribute("data-value")
        return None if text in (None, "null") else float(text)

    def shows(self, expression: str) -> None:
        """Wait until a JavaScript expression holds; not in the page, whose policy forbids it."""
        until = time.monotonic() + 10
        while not self.page.evaluate(expression):
            assert time.monotonic() < until, expression
            self.page.wait_for_timeout(50)


@pytest.fixture
def visit(browser) -> Iterator:
    visits: list[Visit] = []

    def open_page(node: Node, **options) -> Visit:
        visits.append(Visit(browser, node, **options))
        node.heard()  # to open a page may have taken longer than the light stays green
        return visits[-1]

    yield open_page
    for one in visits:
        one.context.close()


@pytest.fixture
def node(tmp_path, monkeypatch) -> Iterator[Node]:
    monkeypatch.setattr(pictures, "SHARE", 1e9)

    def drawn(item) -> Composite:
        return compose(item)

    with Node(tmp_path, compose=drawn) as running:
        running.context.facts.update(model="disparity-mse", width=1242, height=375, quality=24.0, budget_kbps=2600.0)
        running.frames(900)
        running.pictures[0].offer(decoded(899))
        yield running


def test_figures_are_those_of_the_node_and_nothing_goes_wrong(visit, node):
    seen = visit(node)
    seen.shows("document.querySelector('.word').textContent === 'Running'")
    whole = node.streams[0].whole()
    for name in ("kbps", "bpp", "ratio", "psnr_db", "ms_ssim", "age_p95_ms", "fps"):
        assert seen.figure(f"now.{name}") == pytest.approx(whole["now"][name])
    for name in ("frames_in", "frames_out", "payload_bytes", "wire_bytes", "kbps", "bpp", "psnr_db", "ms_ssim"):
        assert seen.figure(f"run.{name}") == pytest.approx(whole["run"][name])
    with urllib.request.urlopen(node.url.replace("dashboard", "metrics"), timeout=5) as answer:
        assert "sidecast_frames_out_total 900.0" in answer.read().decode()
    assert seen.figure("run.frames_out") == 900
    assert seen.page.locator('[data-figure="now.psnr_db"]').inner_text().endswith("dB")
    assert seen.page.locator('[data-figure="run.frames_in"]').inner_text() == "900"
    assert "decoder" in seen.page.title()
    assert seen.wrong == []


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (820, "light"), (1440, "dark")])
def test_every_width_and_theme_is_readable(visit, node, width, theme):
    seen = visit(node, width=width, theme=theme)
    seen.shows("document.querySelectorAll('.chart path, .chart circle').length > 50")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    ground, ink = (
        seen.page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
    )
    assert (_lightness(ground) < _lightness(ink)) == (theme == "dark")
    assert abs(_lightness(ground) - _lightness(ink)) > 0.75
    cut = (
        "[...document.querySelectorAll('.now dd:first-of-type, h2, h3')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    )
    assert seen.page.evaluate(f"{cut}.map(e => e.textContent)") == []
    assert seen.wrong == []


def _lightness(colour: str) -> float:
    return sum(float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 765


def test_the_light_turns_red_and_green_again_without_a_reload(visit, node):
    seen = visit(node)
    seen.shows("document.querySelector('.light').dataset.colour === 'green'")
    seen.page.evaluate("window.same = true")
    seen.shows("document.querySelector('.light').dataset.colour === 'red'")
    assert seen.page.locator(".word").inner_text() == "Silent"
    node.frames(3)
    seen.shows("document.querySelector('.light').dataset.colour === 'green'")
    assert seen.page.evaluate("window.same")
    assert seen.wrong == []


def test_names_of_hostile_streams_are_text(visit, tmp_path):
    with Node(tmp_path, name=HOSTILE, streams=2) as node:
        for context, stream in zip(node.contexts, node.streams, strict=True):
            stream.title = HOSTILE
            context.facts.update(model=HOSTILE, device=HOSTILE)
        node.frames(20)
        node.context.ledger.note(3, **{f"{HOSTILE}_ms": 3.0})
        seen = visit(node)
        assert seen.page.locator("h2").first.inner_text() == HOSTILE
        assert seen.page.locator("img").count() == 1
        assert seen.page.locator("script").count() == 1
        assert seen.page.locator(".stream").count() == 2
        assert seen.figure("run.frames_in", stream=1) == 20
        boxes = [seen.page.locator(".stream").nth(i).bounding_box() for i in range(2)]
        assert boxes[0]["y"] == boxes[1]["y"]
        assert seen.wrong == []


def test_pictures_are_chosen_by_keyboard_and_blink(visit, node):
    seen = visit(node)
    seen.page.wait_for_selector('.views input[value="error"]')
    canvas = "document.querySelector('canvas').toDataURL()"
    before = seen.page.evaluate(canvas)
    seen.page.locator('.views input[value="decoded"]').focus()
    seen.page.keyboard.press("ArrowRight")
    assert seen.page.locator(".screen .caption").inner_text() == "Side view, right"
    assert seen.page.evaluate(canvas) != before
    assert "frame 899" in seen.page.locator("canvas").get_attribute("aria-label")
    seen.page.locator('.views input[value="blink"]').check(force=True)
    for caption in ("Original", "Decoded, left view"):
        seen.shows(f"document.querySelector('.screen .caption').textContent === '{caption}'")
    assert seen.wrong == []


def test_single_values_are_read_by_keyboard_and_everything_has_a_name(visit, node):
    seen = visit(node)
    chart = seen.page.locator(".bitrate .chart")
    seen.shows("document.querySelectorAll('.bitrate path').length")
    chart.focus()
    seen.page.keyboard.press("ArrowLeft")
    seen.page.keyboard.press("ArrowLeft")
    assert seen.page.locator(".readout").inner_text().count("·") == 3
    assert "kbit/s" in chart.get_attribute("aria-label")
    unnamed = (
        "[...document.querySelectorAll('svg[role=img], canvas, fieldset')].filter(e => !(e.getAttribute('aria-label')"
    )
    assert seen.page.evaluate(f"{unnamed} || e.querySelector('legend'))).filter(e => e.checkVisibility()).length") == 0
    assert seen.page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName).join()").startswith(
        "H1,H2,H3"
    )
    seen.page.locator(".range input").nth(1).check(force=True)
    assert "10 s" in seen.page.locator(".readout").inner_text()


def test_before_the_first_frame_is_through_nothing_is_called_unknown(visit, tmp_path):
    with Node(tmp_path) as node:
        for i in range(8):
            node.context.ledger.frame_in(i, START_NS + i * 100_000_000)
            node.context.ledger.note(i, payload_bytes=9000.0, bpp=0.15)
        node.heard()
        seen = visit(node)
        seen.shows("document.querySelectorAll('.bitrate path').length > 0")  # although the second is not over
        assert seen.page.locator('[data-figure="now.psnr_db"]').inner_text() == "not yet"
        assert "unknown here" not in seen.page.locator("main").inner_text()
        assert _fates(seen) == {"through": "0", "on their way": "8"}
        for i in range(8):
            node.context.ledger.frame_out(i)
        seen.shows("document.querySelector('[data-figure=\"now.psnr_db\"]').textContent === 'unknown here'")
        assert seen.wrong == []


def test_what_became_of_every_frame_is_said_and_adds_up(visit, node):
    for i, reason in enumerate(("corrupt", "corrupt", "stale"), start=900):
        node.context.ledger.frame_in(i, START_NS + i * 33_333_333)
        node.context.ledger.drop(i, reason)
    node.context.ledger.note(899, unpaired=1.0)
    node.heard()
    assert _fates(visit(node)) == {
        "with side view": "899",
        "without side view": "1",
        "dropped: corrupt": "2",
        "dropped: stale": "1",
    }


def _fates(seen: Visit) -> dict[str, str]:
    seen.page.wait_for_selector(".pairing .bars li")
    items = seen.page.locator(".pairing .bars li").all()
    return {item.locator("span").inner_text(): item.locator("b").inner_text() for item in items}


def test_a_long_age_is_said_in_seconds(visit, node):
    node.frames(300, latency_ms=21_000.0)
    seen = visit(node)
    seen.page.wait_for_selector('[data-figure="now.age_p95_ms"] small')
    assert seen.page.locator('[data-figure="now.age_p95_ms"]').inner_text() == "21.0\u2009s"
    assert seen.figure("now.age_p95_ms") == pytest.approx(21_000)


def test_the_highest_bitrate_that_is_read_out_is_not_the_budget(visit, node):
    node.context.facts.update(budget_kbps=90_000.0)
    seen = visit(node)
    seen.shows("document.querySelectorAll('.bitrate path').length")
    label = seen.page.locator(".bitrate .chart").get_attribute("aria-label")
    assert "highest 2," in label
    assert "budget 90,000" in label


def test_one_page_too_many_says_so(browser, node, monkeypatch):
    monkeypatch.setattr(events, "MAX_PAGES", 0)
    page = browser.new_page()
    page.goto(node.url)
    page.wait_for_selector('#connection:text("pages of this dashboard are open already")')
    page.close()


def test_a_node_that_is_gone_is_seen_and_the_end_is_told(visit, node):
    seen = visit(node)
    seen.shows("document.querySelector('.word').textContent === 'Running'")
    node.frames(5)
    node.dashboard.stop()
    seen.shows("document.querySelector('.word').textContent === 'Ended'")
    seen.shows("document.querySelector('#connection').innerText === 'The run has ended'")
    assert seen.figure("run.frames_in") == 905
