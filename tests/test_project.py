"""The project as a whole: what the wheel holds, what is pinned, what no tracked file may say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from discover_stream.app.cli import build_app

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("discover_stream", "actors", "topics")
MAX_LINES = 400
LONGER_FILES: dict[str, str] = {}
"""Files of our packages that may exceed `MAX_LINES`, each with the reason."""
MAX_WEIGHTS = 25_000_000
CODE_OR_DATA = {".py", ".yaml", ".typed", ".safetensors", ".json", ".j2", ".md"}
CONSOLE = {".js", ".mjs", ".css", ".html", ".svg", ".txt"}


def pyproject() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements() -> list[Requirement]:
    project = pyproject()["project"]
    assert isinstance(project, dict)
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    return [Requirement(text) for text in (*project["dependencies"], *extras)]


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line) for line in lines)
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def tracked_files() -> list[Path]:
    """What git would commit: tracked files, and new ones that are not ignored."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: there is no list of tracked files")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in files if path.is_file()]


def package_files() -> list[str]:
    """Every file of the packages in the checkout that belongs into a wheel, as posix paths.

    Follows links: discover_stream/configs is one to the folder that people edit.
    """
    found = [
        Path(folder, name).relative_to(ROOT)
        for package in PACKAGES
        for folder, _, names in os.walk(ROOT / package, followlinks=True)
        for name in names
    ]
    return sorted(path.as_posix() for path in found if path.suffix in CODE_OR_DATA | CONSOLE)


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = set(package_files())
    assert inside >= expected, f"missing: {sorted(expected - inside)}"
    assert {name.split("/")[0] for name in inside} == set(PACKAGES)
    for name in (
        "semantics/label_sets/vehicles.yaml",
        "configs/local.yaml",
        "app/templates/report.html.j2",
        "app/console/index.html",
        "app/console/vendor/hls.js-LICENSE.txt",
        "py.typed",
    ):
        assert f"discover_stream/{name}" in inside
    for name in ("codec", "denoiser", "grounder", "vae"):
        assert f"discover_stream/weights/nano/{name}.safetensors" in inside


def test_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (folder,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        said = archive.read(f"{folder}/METADATA").decode()
        assert "discover = discover_stream.app.cli:main" in archive.read(f"{folder}/entry_points.txt").decode()
    assert "License-Expression: Apache-2.0" in said
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_unpacked_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    program = f"""
import sys
sys.path = [entry for entry in sys.path if entry != {str(ROOT)!r}]
sys.meta_path = [f for f in sys.meta_path if "editable" not in str(f).lower()]
sys.path.insert(0, {str(place)!r})
import actors, topics, discover_stream
for package in (actors, topics, discover_stream):
    assert package.__file__.startswith({str(place)!r}), package.__file__
from discover_stream.codec.model import load_codec
from discover_stream.semantics.labels import builtin_tasks
from discover_stream.app import cli, demo_report
from discover_stream.config import load_config
assert set(builtin_tasks()) >= {{"vehicles", "pedestrians", "everything"}}
load_codec()
load_config()
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_console_script_is_installed() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="discover")
    assert callable(script.load())


def test_every_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{requirement.name} is not in constraints.txt; run make freeze"
        assert requirement.specifier.contains(pinned[name], prereleases=True), f"{requirement}: pin {pinned[name]}"


def imported(folders: Sequence[str]) -> set[str]:
    """Distributions that the Python files of some folders import, wherever in a file they do."""
    names: set[str] = set()
    for path in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    own = {*PACKAGES, "benchmarks", "deploy", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    known = metadata.packages_distributions()
    foreign = {name for name in names if name.split(".")[0] not in own | sys.stdlib_module_names}
    return {canonicalize_name(distribution_of(name, known)) for name in foreign}


def distribution_of(module: str, known: Mapping[str, list[str]]) -> str:
    """What brings a module: by its first name, and where several share that one, by who has the file."""
    first = module.split(".", maxsplit=1)[0]
    among = sorted(set(known.get(first, [first])))
    path = module.replace(".", "/")
    for name in among if len(among) > 1 else ():
        if any(file.as_posix() in (f"{path}.py", f"{path}/__init__.py") for file in metadata.files(name) or ()):
            return name
    return among[0]


def test_code_imports_what_is_declared_and_nothing_else() -> None:
    project = pyproject()["project"]
    assert isinstance(project, dict)

    def declared(texts: Sequence[str]) -> set[str]:
        return {canonicalize_name(Requirement(text).name) for text in texts}

    runtime = declared(project["dependencies"])
    optional = declared(
        [text for name, texts in project["optional-dependencies"].items() if name != "dev" for text in texts]
    )
    used = imported(PACKAGES)
    assert used - runtime - optional == set(), "imported, but not declared in pyproject.toml"
    assert runtime - used == set(), "declared in pyproject.toml, but not imported"
    tools = declared(project["optional-dependencies"]["dev"])
    assert imported(["tests", "benchmarks", "deploy"]) - runtime - tools == set()


def test_dependencies_are_ranges() -> None:
    for requirement in requirements():
        assert requirement.specifier, f"{requirement} has no lower bound"
        assert all(bound.operator != "==" for bound in requirement.specifier), f"{requirement} is a pin"
        assert requirement.url is None


FORBIDDEN = {
    "a path of one machine": re.compile(r"(?:^|[^A-Za-z0-9_.~-])/(?:work|farm|root|home|Users)/"),
    "an address of a package index": re.compile(
        r"https?://[^\s\"']*(?:pypi|pythonhosted|/simple\b|download\.pytorch\.org|\.whl\b)|--(?:extra-)?index-url"
    ),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_names(what: str) -> None:
    found = []
    for path in tracked_files():
        if path == Path(__file__).resolve():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
            for number, line in enumerate(lines, 1)
            if FORBIDDEN[what].search(line)
        ]
    assert not found, f"{what}:\n" + "\n".join(found)


def test_weights_stay_small() -> None:
    files = {ROOT / name for name in package_files()} | set(tracked_files())
    sizes = {
        path.relative_to(ROOT).as_posix(): path.stat().st_size
        for path in files
        if path.suffix in {".safetensors", ".onnx", ".pt", ".pth", ".h5", ".npz"}
    }
    assert sizes
    assert sum(sizes.values()) <= MAX_WEIGHTS, sizes


def test_no_file_is_long() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    too_long = {name: count for name, count in lengths.items() if count > MAX_LINES and name not in LONGER_FILES}
    assert not too_long
    assert all(lengths.get(name, 0) > MAX_LINES for name in LONGER_FILES), "an exception is no longer needed"


@pytest.mark.parametrize(
    "target",
    ["demo", "test", "bench", "fuzz", "kafka", "kafka-stop", "setup", "lint", "format", "types", "wheel", "clean"],
)
def test_make_knows(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_package_folders_only_hold_known_kinds_of_files() -> None:
    """Otherwise a new kind of data would be left out of the wheel and of the check on it."""
    strange = [
        path.relative_to(ROOT).as_posix()
        for path in tracked_files()
        if path.relative_to(ROOT).parts[0] in PACKAGES
        and path.suffix not in (CODE_OR_DATA | CONSOLE if "console" in path.parts else CODE_OR_DATA)
    ]
    assert not strange


def documents() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".md"]


def test_documents_name_commands_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = {
        entry.name or entry.callback.__name__ for entry in build_app().registered_commands if entry.callback is not None
    }
    commands |= {group.name for group in build_app().registered_groups if group.name}
    assert {"encode", "decode", "demo", "run", "eval"} <= commands
    for path in documents():
        lines = [line.strip().lstrip("$ ") for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            if used := re.match(r"make ([a-z]+)", line):
                assert used[1] in targets, f"{path.name}: {line}"
            if used := re.match(r"discover ([a-z]+)", line):
                assert used[1] in commands, f"{path.name}: {line}"


def test_documents_link_to_files_that_exist() -> None:
    for path in documents():
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"
