# SPDX-License-Identifier: Apache-2.0
"""Reads a Python source tree and says where it breaks the rules of the house (see ``test_architecture.py``).

Every check takes `Source` objects and returns complaints, one line each, so that it can be tried on bad snippets.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FACADE = ""  # the component of ``tallystick/__init__.py``: what an application imports


@dataclass(frozen=True)
class Import:
    """One imported module: where, whether at import time, whether for type checkers only."""

    target: str
    line: int
    deferred: bool
    typing_only: bool


@dataclass
class Source:
    """One module, parsed."""

    name: str
    text: str
    is_package: bool = False
    tree: ast.Module = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)

    @property
    def component(self) -> str:
        """The package or module right under ``tallystick``."""
        return [*self.name.split("."), FACADE][1]

    def imports(self, known: Iterable[str]) -> list[Import]:
        """Every import statement and literal ``import_module`` call, function-level ones included."""
        return list(_imports(self, set(known)))

    def docstrings(self) -> set[int]:
        """Identities of the constants that are docstrings."""
        owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        bodies = (node.body for node in ast.walk(self.tree) if isinstance(node, owners))
        return {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}


def read(root: Path, package: Path) -> list[Source]:
    """Parse every module of a package; names are relative to `root`."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found.append(Source(name, path.read_text(encoding="utf-8"), is_package))
    return found


def _imports(source: Source, known: set[str]) -> Iterator[Import]:
    for node, deferred, typing_only in _walk(source.tree):
        for target in _targets(node, source):
            resolved = target if target in known or "." not in target else _known_parent(target, known)
            yield Import(resolved, getattr(node, "lineno", 0), deferred, typing_only)


def _known_parent(target: str, known: set[str]) -> str:
    parent = target.rsplit(".", 1)[0]
    return parent if parent in known else target


def _targets(node: ast.AST, source: Source) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            stem = source.name.split(".")
            stem = stem[: len(stem) - node.level + (1 if source.is_package else 0)]
            base = ".".join([*stem, base] if base else stem)
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and _last_name(node.func) in {"import_module", "__import__"} and node.args:
        name = node.args[0]
        return [name.value] if isinstance(name, ast.Constant) and isinstance(name.value, str) else []
    return []


def _walk(node: ast.AST, deferred: bool = False, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and _last_name(child.test) == "TYPE_CHECKING":
            for statement in child.body:
                yield statement, inside, True
            for statement in child.orelse:
                yield statement, inside, typing_only
                yield from _walk(statement, inside, typing_only)
            continue
        yield child, inside, typing_only
        yield from _walk(child, inside, typing_only)


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _names(sources: Iterable[Source]) -> set[str]:
    return {source.name for source in sources}


# -------------------------------------------------------------------------------------------------------- the checks


def layer_violations(sources: list[Source], layers: tuple[tuple[str, ...], ...]) -> list[str]:
    """Imports that do not point down; components of one layer may not import each other either."""
    rank = {component: number for number, row in enumerate(layers) for component in row}
    found = [f"{s.name}: {s.component!r} has no layer" for s in sources if s.component not in rank]
    for source in sources:
        for item in source.imports(_names(sources)):
            root, _, rest = item.target.partition(".")
            target = rest.split(".")[0]
            if root != "tallystick" or source.component not in rank or target == source.component:
                continue
            if rank.get(target, len(layers)) >= rank[source.component]:
                found.append(f"{source.name}:{item.line} imports {item.target}, which is not below it")
    return found


def cycles(sources: list[Source]) -> list[str]:
    """Groups of modules that import each other, deferred imports included, type-only imports not."""
    known = _names(sources)
    graph = {
        source.name: {item.target for item in source.imports(known) if not item.typing_only and item.target in known}
        for source in sources
    }
    found: list[str] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for target in sorted(graph[name]):
                visit(target, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def size_violations(sources: list[Source], module_lines: int, function_lines: int) -> list[str]:
    """Modules and functions longer than allowed."""
    found = []
    for source in sources:
        length = source.text.count("\n")
        if length > module_lines:
            found.append(f"{source.name}: {length} lines, at most {module_lines}")
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > function_lines:
                    found.append(f"{source.name}:{node.lineno} {node.name}: {length} lines, at most {function_lines}")
    return found


def foreign_violations(sources: list[Source], allowed: Mapping[str, tuple[str, int | None]]) -> list[str]:
    """Libraries imported outside their place; `allowed` maps a library to (module prefix, number of files or any)."""
    importers: dict[str, set[str]] = {}
    for source in sources:
        for item in source.imports(_names(sources)):
            library = item.target.split(".")[0]
            if library not in sys.stdlib_module_names and library not in {"tallystick", "__future__"}:
                importers.setdefault(library, set()).add(source.name)
    found = []
    for library, names in sorted(importers.items()):
        if library not in allowed:
            found.append(f"{library} is no known dependency, imported by {sorted(names)}")
            continue
        prefix, limit = allowed[library]
        strays = sorted(name for name in names if not f"{name}.".startswith(f"tallystick.{prefix}"))
        found += [f"{name} imports {library}, which belongs into tallystick.{prefix}*" for name in strays]
        if limit is not None and len(names) > limit:
            found.append(f"{library} is imported by {sorted(names)}, at most {limit} may")
    return found


def import_violations(sources: list[Source], banned: Iterable[str], at_import_time_only: bool) -> list[str]:
    """Modules of `banned` imported anywhere, or at import time only."""
    roots = set(banned)
    return [
        f"{source.name}:{item.line} imports {item.target}"
        for source in sources
        for item in source.imports(())
        if item.target.split(".")[0] in roots and not item.typing_only and not (at_import_time_only and item.deferred)
    ]


def docstring_violations(sources: list[Source]) -> list[str]:
    """Public modules, classes, functions and methods without a docstring."""
    found = []
    for source in sources:
        if ast.get_docstring(source.tree) is None:
            found.append(f"{source.name}: the module")
        found += [f"{source.name}:{n.lineno} {n.name}" for n in _public(source.tree) if ast.get_docstring(n) is None]
    return found


def _public(owner: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in owner.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if any(_last_name(decorator) in {"overload", "setter"} for decorator in node.decorator_list):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            yield from _public(node)


_SEAM = re.compile(r"(^|_)(insecure|simulat\w*|mock\w*|fakes?|faked|testing|tests?_only|for_tests?|monkeypatch)(_|$)")


def seam_violations(sources: list[Source]) -> list[str]:
    """Names and strings that betray a simulator or a test seam."""
    found = []
    for source in sources:
        docstrings = source.docstrings()
        for node in ast.walk(source.tree):
            line = getattr(node, "lineno", 0)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                if re.search(r"firmware_sim|tallystick[-_]sim", node.value):
                    found.append(f"{source.name}:{line} knows the simulator")
            found += [f"{source.name}:{line} {name}" for name in _identifiers(node) if _SEAM.search(_snake(name))]
        found += [
            f"{source.name}:{item.line} imports {item.target}"
            for item in source.imports(())
            if item.target.split(".")[0] in {"firmware_sim", "tallystick_sim", "tests", "unittest", "pytest"}
        ]
    return found


def _identifiers(node: ast.AST) -> list[str]:
    names = [getattr(node, attribute, None) for attribute in ("id", "attr", "arg", "name")]
    return [name for name in names if isinstance(name, str)]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def environment_reads(source: Source) -> list[tuple[int, str | None]]:
    """Each use of the process environment: its line, and the variable if it is a literal read, else None."""
    parents = {child: node for node in ast.walk(source.tree) for child in ast.iter_child_nodes(node)}
    found: list[tuple[int, str | None]] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            found += [(node.lineno, None) for alias in node.names if re.match("environ|getenv|putenv", alias.name)]
        elif isinstance(node, ast.keyword) and node.arg in {"envvar", "auto_envvar_prefix"}:
            found.append((node.value.lineno, _literal(node.value)))
        elif isinstance(node, ast.Attribute) and re.match("environ|getenv|putenv", node.attr):
            parent = parents[node]
            if isinstance(parent, ast.Attribute) and parent.attr == "get":
                parent = parents[parent]
            if isinstance(parent, ast.Call) and parent.args:
                found.append((node.lineno, _literal(parent.args[0])))
            else:
                found.append((node.lineno, _literal(parent.slice) if isinstance(parent, ast.Subscript) else None))
    return found


def _literal(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
