"""What people who carry on are told holds: commands exist, workflows call what is there, the version is one."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

import tpsolve

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
GUIDES = [ROOT / name for name in ("CONTRIBUTING.md", "docs/releasing.md", "README.md")]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def commands(page: Path) -> list[list[str]]:
    """The commands of the sh blocks of a page, in words; what precedes && is one of its own."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]


def steps(workflow: str) -> list[dict[str, Any]]:
    return [step for job in WORKFLOWS[workflow]["jobs"].values() for step in job["steps"]]


def scripts(workflow: str) -> str:
    return "\n".join(step["run"] for step in steps(workflow) if "run" in step)


COMMANDS = [command for page in GUIDES for command in commands(page)]


def test_pages_have_commands():
    assert ["pytest"] in COMMANDS
    assert ["bash", ".ci/run"] in COMMANDS


def test_extras_that_the_pages_and_workflows_install_exist():
    texts = [page.read_text() for page in GUIDES] + [scripts(name) for name in WORKFLOWS]
    named = {extra for text in texts for found in re.findall(r"\.\[([\w,]+)\]", text) for extra in found.split(",")}
    assert {"dev", "test", "release"} <= named
    assert named - set(EXTRAS) == set()


def test_files_that_the_pages_and_workflows_run_exist():
    words = [word for command in COMMANDS for word in command]
    words += [word for name in WORKFLOWS for word in shlex.split(scripts(name).replace("'", ""), comments=True)]
    named = {word for word in words if re.fullmatch(r"(?:\.ci|tests|docs)/[\w./-]+|[\w-]+\.(?:txt|md)", word)}
    assert {".ci/run", ".ci/check_wheel.py", "tests/test_examples.py", "constraints.txt"} <= named
    assert [word for word in sorted(named) if not (ROOT / word).exists()] == []


def test_markers_that_the_pages_and_workflows_select_are_registered():
    texts = [page.read_text() for page in GUIDES] + [scripts(name) for name in WORKFLOWS]
    named = {found for text in texts for found in re.findall(r'pytest -m "(?:not )?(\w+)"', text)}
    registered = {line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    assert named == {"slow", "nightly"}
    assert named <= registered


def test_hypothesis_profiles_that_the_pages_name_exist():
    named = {word.partition("=")[2] for command in COMMANDS for word in command if word.startswith("HYPOTHESIS_")}
    assert named == {"nightly"}
    for name in named:
        assert not settings.get_profile(name).derandomize


def test_modules_that_the_pages_start_are_dependencies():
    declared = {re.split(r"[^\w.-]", item)[0] for extra in EXTRAS.values() for item in extra}
    started = {command[2] for command in COMMANDS if command[:2] == ["python", "-m"]} - {"venv"}
    programs = {command[0] for command in COMMANDS} & {"pytest", "ruff", "pyright", "pre-commit"}
    assert started == {"build", "twine"}
    assert programs == {"pytest", "ruff", "pyright", "pre-commit"}
    assert started | programs <= declared


def test_links_of_the_guide_lead_to_files():
    links = re.findall(r"\]\(([^()\s#:]+)\)", (ROOT / "CONTRIBUTING.md").read_text())
    assert "docs/adding-a-solver.md" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


OF_READERS = {"test_prefixes.py"}
"""Files that a page tells its readers to write."""


def test_documents_and_tests_that_files_name_are_in_the_repository():
    folders = ("tpsolve", "tests", "docs", "benchmarks", ".ci", ".github")
    below = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files = [*below, *(path for path in ROOT.iterdir() if path.is_file())]
    names, missing = {path.name for path in files}, []
    for path in files:
        if path.suffix in (".py", ".md", ".toml", ".yml", ".html"):
            cited = set(re.findall(r"[\w-]+\.md\b|\btest_\w+\.py\b", path.read_text()))
            missing += [f"{path.relative_to(ROOT)}: {name}" for name in sorted(cited - names - OF_READERS)]
    assert len(files) > 200
    assert missing == []


# --- hooks and workflows ----------------------------------------------------------------------------------------------


def test_hooks_run_the_tools_of_the_dev_environment():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    tools = {hook["entry"].split()[0] for hook in repository["hooks"]}
    assert tools == {"ruff", "pyright"}
    # Any other language would make an environment, by downloads.
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_workflow_runs_what_must_pass_before_a_change_lands():
    linux = WORKFLOWS["ci"]["jobs"]["linux"]
    assert linux["runs-on"].startswith("ubuntu")
    assert "bash .ci/run" in [step.get("run") for step in linux["steps"]]


def test_workflow_tests_other_systems_on_the_oldest_python_and_a_newer_one():
    matrix = WORKFLOWS["ci"]["jobs"]["tests"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"macos", "windows"}
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert matrix["python"][0] == oldest
    assert len(matrix["python"]) > 1


def test_release_is_checked_before_it_is_published_without_a_password():
    jobs = WORKFLOWS["release"]["jobs"]
    # YAML 1.1 reads the key `on` as a boolean.
    assert WORKFLOWS["release"][True] == {"push": {"tags": ["v*"]}}
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()
    order = [scripts("release").index(part) for part in ("python -m build", "check_wheel.py dist", "twine check")]
    assert order == sorted(order)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_issue_form_has_a_name_for_every_answer(form: Path):
    content = yaml.safe_load(form.read_text())
    assert content["name"]
    assert content["description"]
    asked = [item for item in content["body"] if item["type"] != "markdown"]
    assert len({item["id"] for item in asked}) == len(asked) > 0
    assert all(item["attributes"]["label"] for item in asked)


def test_form_for_a_wrong_proof_asks_for_the_saved_problem():
    (form,) = (yaml.safe_load(form.read_text()) for form in FORMS if form.stem == "wrong_proof")
    (files,) = (item for item in form["body"] if item.get("id") == "files")
    assert files["validations"] == {"required": True}
    for call in ("problem.save(", "result.save("):
        assert call in files["attributes"]["description"]
    assert callable(tpsolve.LayerProblem.save)
    assert callable(tpsolve.Result.save)


# --- one version ------------------------------------------------------------------------------------------------------


def test_citation_and_changelog_name_the_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == tpsolve.__version__
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0].startswith(f"{tpsolve.__version__}, ")
    pattern = r"\d+\.\d+\.\d+, (?:not yet released|\d{4}-\d{2}-\d{2})"
    assert [heading for heading in headings if not re.fullmatch(pattern, heading)] == []
