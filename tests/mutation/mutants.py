"""Small faults put into a module's syntax tree, one at a time.

Left alone: annotations, decorators, docstrings, `__all__` and every text, since what a message
says is not what these measure.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
UNTOUCHED = frozenset(("annotation", "returns", "decorator_list"))


@dataclass(frozen=True)
class Mutant:
    """A module's source with one fault: its line in the original, and what was changed."""

    line: int
    fault: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its syntax tree."""
    tree = ast.parse(source)
    count = sum(1 for _ in _places(tree))
    found = []
    for number in range(count):
        changed = copy.deepcopy(tree)
        node, fault, change = next(each for i, each in enumerate(_places(changed)) if i == number)
        before = ast.unparse(node)
        after = change()
        line = getattr(node, "lineno", 0)
        said = f"{fault}: {before.splitlines()[0]}" + (f" -> {after}" if after else "")
        found.append(Mutant(line, said, ast.unparse(ast.fix_missing_locations(changed))))
    return found


Place = tuple[ast.AST, str, Callable[[], str]]


def _places(tree: ast.AST) -> Iterator[Place]:
    for node in _nodes(tree):
        yield from _expressions(node)
        yield from _statements(node)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        return
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in UNTOUCHED:
                yield from _nodes(child)


def _set(node: ast.AST, name: str, value: object) -> str:
    setattr(node, name, value)
    return ast.unparse(ast.fix_missing_locations(node))


def _expressions(node: ast.AST) -> Iterator[Place]:
    if isinstance(node, ast.Compare):
        for place, sign in enumerate(node.ops):
            signs = [*node.ops]
            signs[place] = COMPARISONS[type(sign)]()
            yield node, "comparison", lambda signs=signs: _set(node, "ops", signs)
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in ARITHMETIC:
        yield node, "arithmetic", lambda: _set(node, "op", ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield node, "boolean", lambda: _set(node, "op", other)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield node, "sign", lambda: _set(node, "op", ast.UAdd() if _minus(node) else _twice())
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        value = not node.value if isinstance(node.value, bool) else node.value + 1
        yield node, "constant", lambda: _set(node, "value", value)
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield node, "condition", lambda: _set(node, "test", ast.UnaryOp(ast.Not(), node.test))


def _minus(node: ast.UnaryOp) -> bool:
    return isinstance(node.op, ast.USub)


def _twice() -> ast.unaryop:
    """Stand for `not` taken away: `not x` becomes `+x`, true where x is."""
    return ast.UAdd()


def _statements(node: ast.AST) -> Iterator[Place]:
    if isinstance(node, ast.Return) and node.value is not None:
        yield node, "returns None", lambda: _set(node, "value", ast.Constant(None))
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if not isinstance(block, list):
            continue
        for place, statement in enumerate(block):
            if _can_go(statement):
                yield statement, "removed", lambda b=block, p=place: _remove(b, p)


def _can_go(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, (ast.Constant, ast.Yield))
    kinds = (ast.Assign, ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Assert)
    return isinstance(statement, kinds) and "__all__" not in ast.unparse(statement)


def _remove(block: list[ast.stmt], place: int) -> str:
    block[place] = ast.Pass()
    return ""
