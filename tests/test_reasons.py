"""docs/fuse.md has every reason that fuse_report can print, in its words; standard library only."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Said of sums of kernels, of which a report has the terms alone; by the registered rewrite, which
# prints none.
NOT_PRINTED = {
    "no two of its terms are kernels of the same points",
    "it has more than %d terms",
    "no axis of widths is summed",
    "more than widths and factors differ along the axis that is summed",
    "a term of its exponent may overflow as a factor",
    "the loop gets along with a row at a time",
}


def texts(expression):
    """The strings that an expression can be, with %s for what is filled in."""
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return {expression.value}
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Mod):
        return texts(expression.left)
    if isinstance(expression, ast.IfExp):
        return texts(expression.body) | texts(expression.orelse)
    return set()


def reasons():
    found = set()
    for path in (ROOT / "rbf_op" / "fusion").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("NoMatch", "Unreadable"):
                    found |= texts(node.args[0])
            elif isinstance(node, ast.Assign):
                (target,) = node.targets[:1]
                target = target.value if isinstance(target, ast.Subscript) else target
                if isinstance(target, ast.Name) and target.id in ("reason", "reasons", "found"):
                    found |= texts(node.value)
    return found


def section():
    page = " ".join((ROOT / "docs" / "fuse.md").read_text(encoding="utf-8").split())
    return page.split("as they are printed:")[1].split("## What changes")[0]


def test_reasons_are_found():
    assert NOT_PRINTED < reasons() and len(reasons()) > 40


@pytest.mark.parametrize("reason", sorted(reasons() - NOT_PRINTED))
def test_a_reason_is_in_the_page(reason):
    assert "`%s`" % reason.split(": %s")[0] in section()


def test_the_page_has_no_reason_that_is_gone():
    known = {reason.split(": %s")[0] for reason in reasons()}
    for quoted in re.findall(r"`([^`]+)`", section()):
        if quoted.count(" ") > 3 and not re.search(r"[=*]", quoted):
            assert quoted in known
