"""Imports point one way: client -> protocol <- engine; api -> managers -> platform, db -> otp."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
MANAGERS = {"containers", "images", "volumes", "networks"}
ALLOWED = {
    "otp": set(),
    "shim": set(),
    "platform": {"shim"},
    "db": {"otp"},
    **{manager: MANAGERS | {"otp", "db", "platform", "shim", ""} for manager in MANAGERS},
    "api": MANAGERS | {"otp", ""},
}
"""Room of the engine -> rooms that it may import; "" are the modules at the top, which belong to nobody."""


def imports(path: Path) -> set[str]:
    """Absolute names of what a module of ours imports."""
    root = next(root for root in ("engine", "client", "protocol") if TOP / root in path.parents)
    package = list(path.relative_to(TOP / root).with_suffix("").parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            found.add(".".join([*base, *([node.module] if node.module else [])]))
    return found


def modules(root: str) -> list[Path]:
    return sorted((TOP / root).rglob("*.py"))


def test_client_and_protocol_know_nothing_of_the_engine() -> None:
    for root, forbidden in (
        ("client", "jocker_engine"),
        ("protocol", "jocker_engine"),
        ("protocol", "jocker_client"),
    ):
        for path in modules(root):
            assert not any(name.startswith(forbidden) for name in imports(path)), path
    for path in modules("engine"):
        assert not any(name.startswith("jocker_client") for name in imports(path)), path


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_of_the_engine(room: str) -> None:
    for path in modules(f"engine/jocker_engine/{room}"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "jocker_engine" or len(parts) < 2:
                continue
            other = parts[1] if (TOP / "engine" / "jocker_engine" / parts[1]).is_dir() else ""
            known = ALLOWED[room] | {room}
            assert other in known or (other == "" and parts[1] in ("clock",)), f"{path} imports {name}"


@pytest.mark.parametrize("room", ["shim", "platform/worker"])
def test_what_runs_in_processes_of_its_own_needs_the_standard_library_only(room: str) -> None:
    import sys

    for path in modules(f"engine/jocker_engine/{room}"):
        for name in imports(path):
            top = name.split(".")[0]
            ours = name.startswith(("jocker_engine.shim", "jocker_engine.platform", "jocker_protocol"))
            assert ours or top in sys.stdlib_module_names or name == "zstandard", f"{path} imports {name}"
