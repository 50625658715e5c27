"""The page of a comparison: names are texts, questions are answered, and a real browser can use it."""

import importlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pages import Page, Row, drawn_rows

from tpsolve.compare._summary import Findings
from tpsolve.compare.report._checklist import checklist
from tpsolve.compare.report._page_data import MAX_EMBEDDED
from tpsolve.compare.report._report import draw_report

SCRIPT = "</script><script>alert(1)</script>"
HOSTILE = (SCRIPT, "a\u202egnp.exe", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "é\u2028")
SOLVERS = ("branch", "hill-climb:restarts=8", "random")


def draw(folder: Path, rows: list[Row]) -> Path:
    return draw_report(folder, "a run", "Every solve had 0.1 seconds.", Findings(rows))


def embedded(page: Path) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    return json.loads(data)


# --- without a browser ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_plots")
def test_hostile_names_are_texts(tmp_path: Path):
    rows = drawn_rows(HOSTILE, tuple(f"{name}/{k}" for k, name in enumerate(HOSTILE)))
    rows.append({**{k: rows[0][k] for k in rows[0] if k != "objective"}, "seed": 9, "error": SCRIPT})
    path = draw(tmp_path, rows)
    page = Page.of(path)
    assert page.tags.count("script") == 4, "the data and three scripts, no more"
    assert "img" not in page.tags
    text = path.read_text()
    assert "\u202e" not in text
    assert "\u2028" not in text
    assert r"a\u202egnp.exe" in page.text
    assert "{{ 7 * 7 }}" in page.text
    data = embedded(path)
    assert sorted(data["solvers"]) == sorted(
        ["</script><script>alert(1)</script>", r"a\u202egnp.exe", *HOSTILE[2:4], r"é\u2028"]
    )


@pytest.mark.usefixtures("no_plots")
def test_solves_of_later_instances_lie_beside_the_page(tmp_path: Path):
    rows = drawn_rows(("one", "two"), tuple(f"i{k}" for k in range(MAX_EMBEDDED + 3)))
    data = embedded(draw(tmp_path, rows))
    assert len(data["solves"]) == MAX_EMBEDDED
    (beside,) = (tmp_path / "traces").iterdir()
    text = beside.read_text()
    assert text.startswith(f"tpsolveSolves({MAX_EMBEDDED}, [")
    assert len(json.loads(text[text.index("[") : text.rindex("]") + 1])) == 3
    draw(tmp_path, rows[:8])
    assert not (tmp_path / "traces").exists(), "those of an earlier page are deleted"


def test_solves_on_the_page_are_those_of_the_rows(tmp_path: Path, no_plots: None):
    rows = drawn_rows(SOLVERS, ("a", "b"), seeds=2)
    data = embedded(draw(tmp_path, rows))
    shown = {
        (data["solvers"][solve[0]], data["instances"]["name"][place], solve[1]): solve
        for place, each in enumerate(data["solves"])
        for solve in each["solves"]
    }
    assert len(shown) == len(rows)
    for row in rows:
        solve = shown[row["solver"], row["instance"], row["seed"]]
        assert solve[5] == pytest.approx(row["objective"], rel=1e-5)
        assert solve[9][0] == pytest.approx([point[0] for point in row["trace"]], rel=1e-5)


@pytest.mark.usefixtures("no_plots")
def test_page_has_a_choice_of_losses_and_folders(tmp_path: Path):
    names = tuple(f"{folder}/{k}" for folder in ("easy", "hard") for k in range(4))
    views = embedded(draw(tmp_path, drawn_rows(("one", "two"), names)))["views"]
    assert [view["name"] for view in views] == ["all instances", "hinge", "squared", "easy", "hard"]
    assert all(line[9] == 4 for view in views[1:] for line in view["lines"]), "instances of each"
    many = drawn_rows(("one",), tuple(f"{k:02}-folder/{place}" for k in range(15) for place in range(3)))
    assert "; by their names: 3 00-folder, 3 01-folder," in (text := dict(checklist(Findings(many)))["Instances"])
    assert "3 11-folder and 3 more)" in text


def test_colleague_is_answered(tmp_path: Path, no_plots: None):
    rows = drawn_rows(SOLVERS, ("a", "b", "c"), seeds=2)
    rows[0] |= {"seconds": 0.25, "device": "another machine"}
    rows[1] |= {"versions": {"tpsolve": "0.0.9"}, "budget": {"seconds": 7.0, "steps": None}}
    broken = {**rows[-1], "seed": 5, "error": "Boom"}
    answers = dict(checklist(Findings([*rows, broken])))
    assert list(answers) == [
        "Machine",
        "Budget",
        "Seeds",
        "Instances",
        "Intervals",
        "Ties",
        "Failures",
        "Timeouts",
        "Versions",
        "Raw data",
    ]
    assert "18 rows on cpu, 2 threads, x86_64; 1 row on another machine" in answers["Machine"]
    assert "not comparable" in answers["Machine"]
    assert "18 solves of at most 0.1 seconds; 1 solve of at most 7 seconds" in answers["Budget"]
    assert "3 seeds: 0, 1, 5" in answers["Seeds"]
    assert "3 instances (2 hinge, 1 squared), 6 samples, 3 different problems" in answers["Instances"]
    assert "2000 draws of the instances" in answers["Intervals"]
    assert "On 0 of 6 samples every solve" in answers["Ties"]
    assert answers["Failures"].startswith("1 of 19 solves failed: random 1.")
    assert "1 took more than 1.1 times their budget (branch 1), at most 2.5 times" in answers["Timeouts"]
    assert "1 row with tpsolve 0.0.9" in answers["Versions"]
    assert "rows.jsonl has all 19 rows" in answers["Raw data"]
    none = dict(checklist(Findings([broken])))
    assert none["Instances"].endswith("No solver finished one, so there are no means.")
    assert none["Timeouts"] == "No solve ended without an error."
    text = Page.of(draw(tmp_path, [*rows, broken])).text
    for question, answer in answers.items():
        assert f"{question} {answer}" in text


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium, or playwright's own."""
    try:
        playwright = importlib.import_module("playwright.sync_api")
    except ImportError:
        pytest.skip("playwright is not installed: pip install '.[browser]'")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with playwright.sync_playwright() as running:
        try:
            started = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no chromium: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    solvers = ("branch", "anneal", "tabu", SCRIPT, "random")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tpsolve.compare.report._report.draw_all", lambda findings: {})
        return draw(folder, drawn_rows(solvers, tuple(f"layer-{k}" for k in range(MAX_EMBEDDED + 5)), seeds=2))


@pytest.fixture
def messages() -> list[str]:
    """What the page says in the console; a page that works says nothing."""
    return []


@pytest.fixture
def opened(browser: Any, drawn: Path, messages: list[str], request: pytest.FixtureRequest) -> Iterator[Any]:
    width, scheme = getattr(request, "param", (1200, "light"))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith("file:") else messages.append(f"fetched {sent.url}"))
    page.goto(drawn.as_uri())
    yield page
    context.close()


def column(page: Any, table: str, number: int) -> list[str]:
    return page.locator(f"#{table} tbody tr td:nth-child({number})").all_inner_texts()


@pytest.mark.slow
@pytest.mark.parametrize("opened", [(400, "light"), (1200, "dark"), (2400, "light")], indirect=True, ids=str)
def test_page_fits_its_width_and_draws_every_picture(opened: Any, messages: list[str]):
    width = opened.viewport_size["width"]
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    for chart in ("left", "found", "proved", "targets"):
        assert opened.locator(f"#chart-{chart} path.course").count() >= 1
        assert opened.locator(f"#chart-{chart} > svg").bounding_box()["width"] <= width
    assert opened.locator("#chart-left path.course").count() == 5
    dark = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (width != 1200)
    opened.select_option("#theme", "light")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert messages == []


@pytest.mark.slow
def test_tables_sort_and_filter(opened: Any, messages: list[str]):
    first = column(opened, "solver-table", 1)
    assert len(first) == 5
    heading = opened.locator("#solver-table th", has_text="solver")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    ascending = column(opened, "solver-table", 1)
    heading.locator("button").press("Enter")
    assert column(opened, "solver-table", 1) == ascending[::-1]
    assert sorted(ascending) == sorted(first)
    wins = opened.locator("#wins-table tbody td").all_inner_texts()
    assert all(re.fullmatch(r"([0-9]+%\np (< )?[0-9.]+)?", share) for share in wins)
    assert sum(bool(share) for share in wins) == 5 * 4
    moments = opened.locator("#budgets-table thead th").all_inner_texts()
    assert moments[-1] == "100 ms"
    columns = [column(opened, "budgets-table", k + 1) for k in range(1, len(moments))]
    assert all(any(not cell.startswith("-") for cell in cells) for cells in columns)
    opened.fill("#solver-filter", "ANNEAL")
    assert column(opened, "solver-table", 1) == ["anneal"]
    assert opened.inner_text("#solver-count") == "1 solver, of 5"
    opened.fill("#instance-filter", "layer-20")
    assert column(opened, "instance-table", 1) == ["layer-20", *(f"layer-20{k}" for k in range(5))]
    opened.select_option("#family", label="squared")
    assert set(column(opened, "instance-table", 2)) == {"squared"}
    assert messages == []


@pytest.mark.slow
def test_pictures_are_read_with_the_pointer_and_the_keyboard(opened: Any, messages: list[str]):
    chart = opened.locator("#chart-left > svg")
    chart.hover(position={"x": 500, "y": 120})
    tip = opened.locator("#chart-left .tip")
    assert tip.is_visible()
    assert "anneal" in tip.inner_text()
    assert "%" in tip.inner_text()
    chart.focus()
    chart.press("End")
    assert opened.locator("#chart-left [role=status]").inner_text().startswith(tip.locator("strong").inner_text())
    chart.press("Escape")
    assert not tip.is_visible()
    logarithmic = opened.locator("#chart-left path.course").first.get_attribute("d")
    opened.uncheck("#x-log")
    assert opened.locator("#chart-left path.course").first.get_attribute("d") != logarithmic
    button = opened.locator("#legend button", has_text="tabu")
    button.press("Space")
    assert button.get_attribute("aria-pressed") == "false"
    assert opened.locator("#chart-left path.course").count() == 4
    assert opened.locator('#chart-left path[data-name="tabu"]').count() == 0
    assert messages == []


@pytest.mark.slow
@pytest.mark.parametrize("place", [3, MAX_EMBEDDED + 2], ids=["in the page", "beside it"])
def test_instance_opens_to_its_samples_and_traces(opened: Any, messages: list[str], place: int):
    opened.fill("#instance-filter", f"layer-{place}")
    opened.locator("#instance-table .link", has_text=re.compile(f"^layer-{place}$")).press("Enter")
    opened.locator("#detail-table tbody tr").first.wait_for()
    assert opened.inner_text("#detail-title") == f"layer-{place}"
    assert opened.locator("#detail-table tbody tr").count() == 5 * 2 * 2
    assert opened.locator("#chart-detail path.course").count() == 5 * 2
    assert opened.evaluate("document.activeElement.id") == "detail"
    opened.select_option("#detail-sample", "1")
    assert set(column(opened, "detail-table", 3)) == {"1"}
    opened.locator("#detail").press("Escape")
    assert not opened.locator("#detail").is_visible()
    assert opened.evaluate("document.activeElement.textContent") == f"layer-{place}"
    assert messages == []


@pytest.mark.slow
def test_every_control_has_a_name_and_paper_has_none_of_them(opened: Any, messages: list[str]):
    opened.locator("#instance-table .link").first.press("Enter")
    opened.locator("#detail-table tbody tr").first.wait_for()
    # What chromium tells a screen reader.
    nodes = opened.context.new_cdp_session(opened).send("Accessibility.getFullAXTree")["nodes"]
    names: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            names.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", "").strip())
    named = ("button", "combobox", "searchbox", "checkbox", "table", "region", "image", "link", "navigation", "group")
    assert {role: names[role].count("") for role in named if role in names} == {
        role: 0 for role in named if role in names
    }
    assert {"Table of solvers", "Who beats whom", "Table of instances", "Solves of this instance"} <= {*names["table"]}
    assert len(names["image"]) >= 6
    assert {"columnheader", "rowheader"} <= names.keys()
    opened.emulate_media(media="print", color_scheme="dark")
    opened.set_viewport_size({"width": 720, "height": 1000})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 720
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not opened.locator("#solver-filter").is_visible()
    assert opened.locator("#chart-left path.course").first.is_visible()
    pair = opened.locator(".pair figure")
    # A page break may move one of them by a pixel.
    above, beside = (pair.nth(place).bounding_box()["y"] for place in range(2))
    assert abs(above - beside) <= 2, "side by side"
    assert messages == []
