"""The manual says what the commands say, in both languages, and its sources are clean."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from omtools.agent import config
from omtools.agent.hpc.tree import DIRECTORIES, FILES
from omtools.cluster.map import parse_map, parse_names
from omtools.cluster.simulator import scenario
from omtools.errors import OmError
from omtools.omfs.exports import parse_exports

from .support import LANGUAGES, ROOT, SCRIPTS, Page, help_of, options_in, page_of, pages

# What is referred to without being ours.
SYSTEM = {
    "bash.1", "cat.1", "echo.1", "fish.1", "ps.1", "sh.1", "ssh.1", "systemctl.1", "top.1", "zsh.1",
    "execve.2", "fcntl.2", "flock.2", "fork.2", "write.2",
    "fallocate.2", "sendfile.2", "splice.2", "chattr.1", "nfs.5", "proc.5", "epoll.7", "inotify.7", "ssh-keyscan.1", "sshd.8",
}  # fmt: skip


def every_page() -> list[Page]:
    return [page for language in LANGUAGES for page in pages(language).values()]


def names(page: Page) -> str:
    return f"{page.language}/{page.path.name}"


@pytest.mark.parametrize("command", sorted(SCRIPTS))
def test_every_option_and_verb_of_a_command_is_in_both_pages(command: str) -> None:
    said = help_of(command)
    options = set().union(*map(options_in, said.values()))
    assert all(said.values())
    verbs = {word for verb in said for word in verb.split()}
    for language in LANGUAGES:
        text = page_of(command, language).text
        assert page_of(command, language).described() - options <= {"--help"}, "it has no such option"
        missing = [option for option in options
                   if not re.search(rf"(?<![\w-]){re.escape(option)}(?![a-z0-9-])", text)]  # fmt: skip
        missing += [verb for verb in verbs if not re.search(rf"(?<![\w-]){re.escape(verb)}(?![\w-])", text)]
        assert missing == [], f"man/{language} of {command} lacks them"


def test_options_are_found_in_help_texts() -> None:
    assert options_in("  -h, --help  x\n  -NODE  -jLIST -off  -1 re-use a--b [-t] (--no-x)") == {
        "-h", "--help", "-N", "-j", "-off", "-t", "--no-x",
    }  # fmt: skip


def test_both_languages_have_the_same_pages_of_the_same_shape() -> None:
    english, spanish = pages("en"), pages("es")
    assert sorted(english) == sorted(spanish)
    different = [name for name in english if english[name].shape() != spanish[name].shape()]
    assert different == []


@pytest.mark.parametrize("page", every_page(), ids=names)
def test_a_page_refers_to_pages_there_are(page: Page) -> None:
    title = re.search(r"^\.TH (\S+) (\d) ", page.source, re.M)
    assert title is not None
    assert title.groups() == (page.name.upper(), str(page.section))
    known = SYSTEM | set(pages(page.language))
    referred = {f"{name}.{section}" for name, section in re.findall(r"\\fB([\w.\\-]+)\\fR\((\d)\)", page.source)}
    assert {name.replace("\\-", "-") for name in referred} - known == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_introduction_names_every_command_and_every_exit_status(language: str) -> None:
    introduction = pages(language)["openmosix.7"]
    commands = [command for command in SCRIPTS if f"{command}({page_of(command, language).section})"
                not in introduction.text and command != "openmosix"]  # fmt: skip
    assert commands == []
    explained = set(map(int, re.findall(r"^\.TP\n\\fB(\d+)\\fR$", introduction.source, re.M)))
    errors = {error.exit_status: name for name, error in OmError.registry.items()
              if error.__module__.startswith("omtools.")}  # fmt: skip
    assert {status: name for status, name in errors.items() if status not in explained | {2, 3}} == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_key_of_the_configuration_is_described(language: str) -> None:
    text = pages(language)["openmosix.config.5"].text
    assert [key for key in config._KEYS if not re.search(rf"\b{key}=", text)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_file_of_the_tree_is_described(language: str) -> None:
    text = pages(language)["hpc.5"].text
    names = {name for files in FILES.values() for name in files} | set(DIRECTORIES)
    assert [name for name in sorted(names) if not re.search(rf"(?<![\w-]){name}(?![\w-])", text)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_examples_of_file_formats_are_right(language: str, tmp_path: Path) -> None:
    found = {name: page.examples() for name, page in pages(language).items() if page.section == 5}
    cluster, names_of_nodes, _error = found["openmosix.map.5"]
    known = parse_map(cluster, "map", parse_names(names_of_nodes, "names"))
    assert len(known) == 6
    assert known.number(2).name in names_of_nodes
    assert len(parse_exports(found["openmosix.exports.5"][0]).entries) == 3
    (tmp_path / "openmosix.config").write_text(found["openmosix.config.5"][0])
    settings = config.read_settings(tmp_path / "openmosix.config")
    assert (settings.number, settings.speed) == (2, 15000)
    assert scenario.parse(found["omsim.5"][0], "page").jobs[0].forks == 40


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is missing: apt-get install man-db mandoc")
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_mandoc_finds_nothing(language: str) -> None:
    files = [str(page.path.relative_to(ROOT)) for page in pages(language).values()]
    done = subprocess.run(
        [need("mandoc"), "-Tlint", *files], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_man_warns_of_nothing(language: str) -> None:
    program, warnings = need("man"), {}
    for page in pages(language).values():
        done = subprocess.run(
            [program, "--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l", str(page.path)],
            capture_output=True, text=True, check=False, timeout=60,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        )  # fmt: skip
        if done.stderr or done.returncode or not done.stdout:
            warnings[page.path.name] = done.stderr
    assert warnings == {}


def test_the_wheel_installs_them(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        installed = {name.partition(".data/data/")[2] for name in archive.namelist()}
    for page in every_page():
        folder = "share/man" if page.language == "en" else f"share/man/{page.language}"
        assert f"{folder}/man{page.section}/{page.path.name}" in installed
