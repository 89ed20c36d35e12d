# SPDX-License-Identifier: Apache-2.0
"""Where a Python source can be made wrong."""

import ast
import re

from tests.mutants.site import TURNED, Site

_DROPPED = {
    ast.Raise: "raise",
    ast.Continue: "continue",
    ast.Break: "break",
    ast.Return: "return",
}


def sites(path: str, text: bytes) -> list[Site]:
    """In the order of the source."""
    found = _Finder(path, text)
    found.visit(ast.parse(text))
    return sorted(found.sites, key=lambda site: (site.start, site.end))


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, text: bytes) -> None:
        self.sites: list[Site] = []
        self._path = path
        self._text = text
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._within: list[str] = []
        self._last: set[ast.stmt] = set()

    def _at(self, line: int | None, column: int | None) -> int:
        assert line is not None
        assert column is not None
        return self._lines[line - 1] + column

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        return (
            self._at(node.lineno, node.col_offset),
            self._at(node.end_lineno, node.end_col_offset),
        )

    def _add(self, start: int, end: int, new: str, what: str) -> None:
        within = ".".join(self._within) or "module"
        self.sites.append(
            Site(
                self._path, self._text, start, end, new.encode(), what, within
            )
        )

    # -- where we are -----------------------------------------------------

    def _enter(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        self._within.append(node.name)
        # A function that ends with nothing fails whatever asks for it.
        if isinstance(node.body[-1], ast.Return):
            self._last.add(node.body[-1])
        self.generic_visit(node)
        self._within.pop()

    visit_ClassDef = visit_FunctionDef = _enter  # noqa: N815

    # -- expressions ------------------------------------------------------

    def _between(
        self, before: ast.expr, after: ast.expr, old: str, new: str, what: str
    ) -> None:
        """Replace an operator between two operands."""
        start, end = self._span(before)[1], self._span(after)[0]
        words = old.replace(" ", r"\s+")
        match = re.search(words.encode(), self._text[start:end])
        assert match, (self._path, before.lineno, old)
        self._add(start + match.start(), start + match.end(), new, what)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for before, operator, after in zip(
            operands, node.ops, node.comparators, strict=False
        ):
            old = _OPERATORS[type(operator)]
            self._between(before, after, old, TURNED[old], f"{old} turned")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else (
            "or", "and",
        )  # fmt: skip
        for before, after in zip(node.values, node.values[1:], strict=False):
            self._between(before, after, old, new, f"{new} for {old}")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            start, _ = self._span(node)
            self._add(start, start + len("not "), "", "not dropped")
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        """Where no operator of its own can be turned."""
        if not isinstance(test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
            start, end = self._span(test)
            old = self._text[start:end].decode()
            self._add(start, end, f"(not ({old}))", "not added")

    # -- statements -------------------------------------------------------

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, (ast.If, ast.While, ast.IfExp)):
            self._negate(node.test)
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                self._negate(test)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self._add(*self._span(node), "pass", "call dropped")
        elif type(node) in _DROPPED and node not in self._last:
            assert isinstance(node, ast.stmt)
            what = _DROPPED[type(node)]
            self._add(*self._span(node), "pass", f"{what} dropped")
        super().visit(node)


_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}
