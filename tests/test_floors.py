"""The floors of the house: who may import whom, and who alone may do what.

All modules are read as syntax trees, so that an import inside a function counts like any other.
"""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import vbnfs

PACKAGE: Final = Path(vbnfs.__file__).parent
TESTS: Final = Path(__file__).parent
ROOT: Final = "root"

# A floor, and the floors that its modules may import besides their own.
MAY_IMPORT: Final[Mapping[str, set[str]]] = {
    ROOT: set(),
    "config": {ROOT, "host"},
    "host": {ROOT},
    "dataset": {ROOT, "host"},
    "s3": {ROOT, "host"},
    "cache": {ROOT, "host"},
    "hdf5": {ROOT},
    "tables": {ROOT},
    "reading": {ROOT, "host", "cache", "hdf5"},
    "fuse": {ROOT, "host"},
    "access": {ROOT, "config", "host", "dataset", "s3", "cache", "hdf5", "reading", "tables"},
    "web": {ROOT, "config", "host", "dataset", "cache", "hdf5", "access", "api", "tables"},
    "filesystem": {ROOT, "host", "dataset", "cache", "reading", "fuse"},
    "api": {ROOT, "config", "host", "dataset", "hdf5", "reading", "access", "tables"},
    "dask": {ROOT, "config", "host", "dataset", "access", "tables", "api"},
    "daemon": {ROOT, "config", "host", "dataset", "s3", "cache", "reading", "fuse", "access", "filesystem"},
    "doctor": {ROOT, "config", "host", "dataset", "s3", "cache", "access", "daemon"},
    "cli": {
        *(ROOT, "config", "host", "dataset", "s3", "cache", "hdf5", "reading", "tables", "access", "daemon"),
        *("doctor", "demo", "dask", "web"),
    },
    "demo": {ROOT, "config", "host", "access"},
    "__main__": {ROOT, "cli"},
}
# What only some modules may import or mention.
ONLY_IMPORTED_BY: Final[Mapping[str, set[str]]] = {
    "httpx": {"vbnfs.s3.http_client"},
    "httpcore": {"vbnfs.s3.http_client", "vbnfs.s3.tunnels"},
    "certifi": {"vbnfs.s3.trust"},
    "pycurl": {f"vbnfs.s3.{name}" for name in ("curl_options", "curl_thread", "curl_transfer")},
    "struct": {"vbnfs.fuse.protocol", "vbnfs.fuse.replies", "vbnfs.hdf5.values", "vbnfs.host.locks"},
    "msvcrt": {"vbnfs.host.locks"},
    "selectors": {"vbnfs.host.events"},
    "platformdirs": {"vbnfs.config.environment"},
    "fcntl": {"vbnfs.host.copying", "vbnfs.host.locks", "vbnfs.fuse.device", "vbnfs.demo.server"},
    "resource": {"vbnfs.host.limits"},
    "grp": {"vbnfs.host.identity"},
    "mmap": {"vbnfs.host.mapping", "vbnfs.fuse.protocol"},
    "tomllib": {"vbnfs.config.sources"},
    "click": {
        f"vbnfs.cli.{name}"
        for name in (
            *("main", "options", "mounting", "releases", "finding", "settings", "structures", "upkeep", "installing"),
            *("indexing", "examples", "completing", "manual", "shell_scripts"),
            "working_sets",
            "sharing",
            "citing",
            "diagnosing",
            "watching",
            "site_caching",
            "serving_web",
        )
    },
    "pyfuse3": {"vbnfs.fuse.pyfuse3_engine"},
    "allensdk": {"vbnfs.api.allensdk", "vbnfs.api.allensdk_files"},
    "prometheus_client": {"vbnfs.daemon.exporter", "vbnfs.daemon.site_exporter"},
    "rich": {"vbnfs.cli.render", "vbnfs.cli.progress", "vbnfs.cli.top_screen"},
    "PIL": {"vbnfs.cli.map_png"},
    "rocrate": {"vbnfs.cli.ro_crate"},
    "fsspec": {"vbnfs.api.buffered_file", "vbnfs.api.filesystem"},
    "upath": {"vbnfs.api.upath"},
    "distributed": {"vbnfs.dask.cluster", "vbnfs.dask.driving", "vbnfs.dask.worker"},
    "starlette": {
        f"vbnfs.web.{name}"
        for name in (
            *("app", "area_views", "file_views", "guard", "http_connection", "jobs_view", "rendering", "serving"),
            "views",
        )
    },
    "jinja2": {"vbnfs.web.rendering"},
    "h11": {"vbnfs.web.http_connection"},
    "pandas": {
        *(f"vbnfs.tables.{name}" for name in ("changes", "columns", "facets", "joins", "reading", "selection")),
        *("vbnfs.tables.values", "vbnfs.web.areas_page", "vbnfs.web.sessions_page"),
        *("vbnfs.web.house", "vbnfs.web.page_tables"),
        "vbnfs.tables.frames",
        *(f"vbnfs.api.{name}" for name in ("citation", "dataset", "difference", "version", "working_sets")),
        *(f"vbnfs.access.{name}" for name in ("finding", "kept_tables", "project_tables", "row_files")),
        *(f"vbnfs.cli.{name}" for name in ("find", "found_rows")),
        *(f"vbnfs.dask.{name}" for name in ("files", "manifest", "results")),
        *(f"vbnfs.demo.{name}" for name in ("cohort", "lfp_file", "session_file", "tables", "tour")),
    },
}
# What other floors know of fuse/: the values that operations return, and how a mount is made.
SEAM_OF_FUSE: Final[Mapping[str, set[str]]] = {
    "filesystem": {"vbnfs.fuse.operations"},
    "daemon": {"vbnfs.fuse.engines", "vbnfs.fuse.empty"},
}
TOO_HEAVY_FOR_A_MOUNT: Final = {
    *("rich.console", "pygments", "pandas", "numpy", "boto3", "h5py", "prometheus_client"),
    *("fractions", "importlib.metadata", "unittest", "vbnfs.demo", "vbnfs.s3.receivers"),
    *("fsspec", "upath", "dask", "distributed", "vbnfs.api", "vbnfs.dask"),
    *("vbnfs.web", "starlette", "jinja2"),
}
ENVIRONMENT: Final = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv"}
PRINTING: Final = {"print", "input", "sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer", "sys.stderr.buffer"}
EXITING: Final = {"exit", "quit", "SystemExit", "sys.exit"}
ENDING_A_CHILD: Final = {"os._exit", "os.abort"}


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name."""
    found: dict[str, ast.Module] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


MODULES: Final = modules()


def floor_of(module: str) -> str:
    """The floor that a module of the package stands on."""
    parts = module.split(".")
    if parts[1:] == ["__main__"]:
        return "__main__"
    return parts[1] if (PACKAGE / Path(*parts[1:2])).is_dir() and len(parts) > 1 else ROOT


def imports_of(tree: ast.Module, known: Mapping[str, object]) -> Iterator[str]:
    """What a module imports, anywhere in it: modules of the package, and others, by dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in known else str(node.module)


def words_of(tree: ast.Module) -> set[str]:
    """The dotted names that a module mentions; `from os import environ` mentions os.environ."""
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            words.add(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom):
            words |= {f"{node.module}.{alias.name}" for alias in node.names}
    return words


@cache
def imported_in(module: str) -> frozenset[str]:
    """What a module of the package or of the tests imports."""
    known = MODULES | TEST_MODULES
    return frozenset(imports_of(known[module], known))


@cache
def mentioned_in(module: str) -> frozenset[str]:
    """The dotted names that a module of the package mentions."""
    return frozenset(words_of(MODULES[module]))


def within(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    return {name for name in imported_in(module) if name.split(".")[0] == "vbnfs"}


def who_mentions(words: set[str]) -> set[str]:
    return {module for module in MODULES if mentioned_in(module) & words}


SAMPLE = """
import os.path, httpx
from vbnfs import errors, __version__
class C:
    def f(self):
        from vbnfs.daemon import mount as d
        if True:
            from vbnfs.config.settings import Config
            os.environ["x"]
        sys.stdout.write(print)
from os import getenv
"""


def test_the_reader_misses_nothing() -> None:
    """Imports in functions, of submodules and of names are all seen, and so are mentions."""
    tree = ast.parse(SAMPLE)
    assert set(imports_of(tree, MODULES)) == {
        *("os.path", "httpx", "os"),
        *("vbnfs.errors", "vbnfs", "vbnfs.daemon.mount", "vbnfs.config.settings"),
    }
    assert {"os.environ", "os.getenv", "print", "sys.stdout.write"} <= words_of(tree)


def test_every_module_stands_on_a_floor() -> None:
    """Every folder of the package is one of the floors; none is empty."""
    assert {floor_of(module) for module in MODULES} == set(MAY_IMPORT)


def test_every_permission_is_used() -> None:
    """The table of floors permits nothing that no module does."""
    used = {(floor_of(module), floor_of(name)) for module in MODULES for name in within(module)}
    permitted = {(floor, below) for floor, floors in MAY_IMPORT.items() for below in floors}
    assert permitted - used == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_the_floors_below(module: str) -> None:
    """A module imports from its own floor and from those that its floor may use."""
    floor = floor_of(module)
    allowed = MAY_IMPORT[floor] | {floor} | ({"api"} if module == PACKAGE.name else set())
    assert {name for name in within(module) if floor_of(name) not in allowed} == set()


def drawn() -> tuple[set[str], dict[str, set[str]]]:
    """The tree of ARCHITECTURE.md: the modules that have a line, and by floor what that line lets it import."""
    tree = (TESTS.parent / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    modules, permissions, floor = set[str](), dict[str, set[str]](), ""
    for line in tree.splitlines():
        if folder := re.match(r"  (\w+)/", line):
            floor = f".{folder[1]}"
            if listed := re.search(r"may import: (root.*)", line):
                permissions[folder[1]] = set(listed[1].split(", "))
        elif names := re.match(r" +((?:\w+\.py(?:, )?)+) ", line):
            modules |= {f"vbnfs{floor}.{name.removesuffix('.py')}" for name in names[1].split(", ")}
    return modules, permissions


def test_architecture_draws_every_module() -> None:
    """ARCHITECTURE.md has a line for each module but the demo's, and for none that is gone."""
    packages = {"vbnfs", *(f"vbnfs.{floor}" for floor in MAY_IMPORT)}  # `__main__` among them, which is all but empty
    assert drawn()[0] == {module for module in MODULES if floor_of(module) != "demo"} - packages


def test_architecture_draws_what_floors_may_import() -> None:
    """Where ARCHITECTURE.md lists the floors that a floor may import, these are the ones that are permitted."""
    permissions = drawn()[1]
    assert permissions.keys() >= {"config", "dataset", "s3", "cache", "reading", "fuse", "access", "filesystem"}
    assert permissions == {floor: MAY_IMPORT[floor] for floor in permissions}


def below(floor: str) -> set[str]:
    """A floor, and all floors that it stands on, one above the other."""
    found, new = set[str](), {floor}
    while new:
        found |= new
        new = {each for one in new for each in MAY_IMPORT[one]} - found
    return found


def read_tests() -> dict[str, ast.Module]:
    """Every module of the tests by its dotted name."""
    names = {".".join(path.relative_to(TESTS.parent).with_suffix("").parts): path for path in TESTS.rglob("*.py")}
    return {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in names.items()}


TEST_MODULES: Final = read_tests()


def fixtures_of(tree: ast.Module) -> set[str]:
    """The names of the fixtures that a module defines."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {f.name for f in functions if any("fixture" in ast.unparse(each) for each in f.decorator_list)}


PLUGINS: Final = {
    fixture: module
    for module in TEST_MODULES
    if module.startswith("tests.fixtures_")
    for fixture in fixtures_of(TEST_MODULES[module])
}


def fixtures_wanted(tree: ast.Module) -> Iterator[str]:
    """The names that may be of fixtures: arguments of functions, and what is asked for by a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (argument.arg for argument in node.args.args)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("getfixturevalue", "usefixtures")):
            yield from (each.value for each in node.args if isinstance(each, ast.Constant))


@cache
def named_in(test: str) -> frozenset[str]:
    """What a module of the tests imports, and the modules whose fixtures it wants."""
    wanted = {PLUGINS[name] for name in fixtures_wanted(TEST_MODULES[test]) if name in PLUGINS}
    return imported_in(test) | wanted


def reached_by(test: str) -> set[str]:
    """All that a module of the tests imports, by way of other modules of the tests and of fixtures, too."""
    found, new = set[str](), {test}
    while new:
        found |= new
        new = {name for each in new & TEST_MODULES.keys() for name in named_in(each)} - found
    return found


@pytest.mark.parametrize("test", [name for name in TEST_MODULES if name.split(".")[1] in MAY_IMPORT])
def test_no_test_reaches_above_its_floor(test: str) -> None:
    """The tests of a floor import that floor and those below it; what mirrors no module is a scenario."""
    floors = below(test.split(".")[1])
    assert {name for name in reached_by(test) if name in MODULES and floor_of(name) not in floors} == set()


def test_there_are_no_cycles() -> None:
    """No module imports itself by way of others, imports inside functions included."""
    graph = {module: within(module) - {module, "vbnfs"} for module in MODULES}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(MODULES) - 1


@pytest.mark.parametrize("library", ONLY_IMPORTED_BY)
def test_a_library_has_its_place(library: str) -> None:
    """Only certain modules import certain libraries: HTTP, FUSE, settings and the terminal have a place each."""
    importers = {module for module in MODULES if library in {name.split(".")[0] for name in imported_in(module)}}
    assert importers == ONLY_IMPORTED_BY[library]


def test_fsspec_is_imported_where_its_address_is_used() -> None:
    """No module imports those that import fsspec: fsspec itself does, by an entry point."""
    those = ONLY_IMPORTED_BY["fsspec"] | ONLY_IMPORTED_BY["upath"]
    importers = {module for module in MODULES for name in within(module) if name in those}
    assert importers <= those


def test_only_fuse_knows_the_kernels_protocol() -> None:
    """Operations return values, and a mount is made by an engine: no other floor imports more of fuse/ than that."""
    used: dict[str, set[str]] = {}
    for module in MODULES:
        if floor_of(module) != "fuse":
            used.setdefault(floor_of(module), set()).update(n for n in within(module) if floor_of(n) == "fuse")
    assert {floor: names for floor, names in used.items() if names} == SEAM_OF_FUSE


def test_only_config_reads_the_environment() -> None:
    """The environment is read in one module."""
    assert who_mentions(ENVIRONMENT) == {"vbnfs.config.environment"}


def test_only_the_command_line_prints() -> None:
    """Nothing is written to the terminal outside cli/, but for what the demo shows, and how far a fetch is."""
    places = who_mentions(PRINTING)
    assert {place for place in places if floor_of(place) != "cli"} <= {"vbnfs.demo.tour", "vbnfs.api.progress"}


def test_only_the_command_line_exits() -> None:
    """Nothing outside cli/ ends the program."""
    a_program_of_its_own = "vbnfs.host.die_with_parent"
    assert {place for place in who_mentions(EXITING) if floor_of(place) != "cli"} == {a_program_of_its_own}


def test_only_the_daemon_ends_a_child() -> None:
    """A process is ended without clean-up in two places: a child of `vbnfs mount`, and where Ctrl-C comes early."""
    assert who_mentions(ENDING_A_CHILD) == {"vbnfs.daemon.background", "vbnfs.interrupts"}


def test_a_content_is_made_in_one_place() -> None:
    """One call makes every `Content`, with its hash and all its sources, so that equal ones compare equal."""
    calls = (
        (module, node) for module, tree in MODULES.items() for node in ast.walk(tree) if isinstance(node, ast.Call)
    )
    assert [module for module, call in calls if ast.unparse(call.func) == "Content"] == ["vbnfs.dataset.contents"]


def imported_by(command: list[str]) -> set[str]:
    """All modules, of whichever library, that a command has imported when it fails."""
    script = """
import sys
import vbnfs.cli.main
def fail(*_, **__): print(*sys.modules); sys.exit(1)
vbnfs.cli.main._fail = fail
vbnfs.cli.main.main()
"""
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=False)
    return set(done.stdout.split())


def test_a_mount_imports_what_it_needs() -> None:
    """Starting takes as long as its imports: no tables, no colours, no other event loop, no command but its own."""
    modules = imported_by(["mount", "/dev/null"])  # which is refused when all is imported
    assert {"vbnfs.daemon.mount", "httpx", "pycurl", "trio"} <= modules
    assert modules & TOO_HEAVY_FOR_A_MOUNT == set()
    assert {name for name in modules if name.startswith("vbnfs.cli.")} == {
        f"vbnfs.cli.{name}" for name in ("main", "examples", "mounting", "options", "render", "streams")
    }


def test_the_command_line_pays_for_nothing() -> None:
    """`vbnfs --help` imports none of what only mounts and questions to S3 need: it would take thrice as long."""
    script = "import sys, vbnfs.cli.main; print({'httpx', 'structlog', 'trio'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_interrupt_is_seen_to_first() -> None:
    """Before SIGINT's handler is there, a program imports what that needs, and nothing that takes time."""
    script = "import sys; before = set(sys.modules); import vbnfs.__main__; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {name for name in done.stdout.split() if name.startswith("vbnfs")} == {
        *("vbnfs", "vbnfs.__main__", "vbnfs.interrupts")
    }
    assert set(done.stdout.split()) & {"click", "pathlib", "platformdirs", "tomllib", "typing"} == set()


def test_importing_the_package_does_nothing() -> None:
    """`import vbnfs` imports no module; the Python API is imported when a name of it is used."""
    script = "import sys; before = set(sys.modules); import vbnfs; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "{'vbnfs'}\n"
    assert "__version__" in words_of(MODULES["vbnfs"])


def test_every_test_has_a_docstring() -> None:
    """Each test's docstring is the fact that it pins."""
    without: list[str] = []
    count = 0
    for module, tree in TEST_MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                count += 1
                if not (ast.get_docstring(node) or "").strip():
                    without.append(f"{module}:{node.lineno} {node.name}")
    assert without == []
    assert count > 100
