"""The tables of cases are sharp: nearly every change of a condition's code breaks one of them."""

from __future__ import annotations

import ast
import copy
import inspect
import sys
from collections.abc import Iterator
from typing import Any

from edgeface.access import conditions
from tests.access_spoilt import EDGES, MET_BY_NOTHING, NOTHING, SPOILT, Case, lacking

_OTHER: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what one node may be changed to."""
    if isinstance(node, ast.Compare):
        for k, operator in enumerate(node.ops):
            for other in _OTHER[type(operator)]:
                new = copy.deepcopy(node)
                new.ops[k] = other()
                yield new
    if isinstance(node, ast.BoolOp):
        other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other_op, node.values)
        for k in range(len(node.values)):
            rest = node.values[:k] + node.values[k + 1 :]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)


def is_wording(node: ast.AST) -> bool:
    """Return whether a node makes what is said of a condition, not what is decided."""
    names = {one.id for one in getattr(node, "targets", ()) if isinstance(one, ast.Name)}
    return isinstance(node, ast.JoinedStr) or bool(names & {"got", "wanted", "bad"})


class OneChange(ast.NodeTransformer):
    """Makes the change of a number, counted from 0; ``done`` says which it was."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.done = ""

    def visit(self, node: ast.AST) -> Any:
        if self.done or is_wording(node):
            return node
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            node.value.elts[2] = self.visit(node.value.elts[2])
            return node
        for other in changed(node):
            if self.left == 0:
                self.done = f"{ast.unparse(node)}  ->  {ast.unparse(other)}"
                return other
            self.left -= 1
        return self.generic_visit(node)


def mutants(name: str) -> Iterator[tuple[str, Any]]:
    """Yield every function that differs from the condition ``name`` in one place."""
    tree = ast.parse(inspect.getsource(getattr(conditions, name)))
    number = 0
    while True:
        change = OneChange(number)
        mutant = change.visit(copy.deepcopy(tree))
        if not change.done:
            return
        scope = dict(vars(conditions))
        code = compile(ast.fix_missing_locations(mutant), f"<{name}>", "exec")
        exec(code, scope)
        yield change.done, scope[name]
        number += 1


def verdict(check: Any, case: Case) -> bool:
    """Return whether the condition is met, as ``decide`` takes it."""
    try:
        return check(conditions.Case.of(*case))[2] is True
    except Exception:  # noqa: BLE001 - as in decide
        return False


def survives(what: str, mutant: Any) -> bool:
    """Return whether no case of the tables notices."""
    return (
        all(verdict(mutant, one.case) is (what not in lacking(one)) for one in SPOILT)
        and all(verdict(mutant, case) for case in EDGES.values())
        and verdict(mutant, NOTHING) is (what in MET_BY_NOTHING)
    )


def test_nearly_every_change_of_a_condition_is_noticed() -> None:
    made, left = 0, []
    for what, check in conditions.CHECKS:
        assert survives(what, check), what
        for change, mutant in mutants(check.__name__):
            made += 1
            if survives(what, mutant):
                left.append(f"{what}: {change}")
    sys.stdout.write(f"\nC1: {made - len(left)} of {made} changes of the conditions noticed\n")
    for line in left:
        sys.stdout.write(f"  {line}\n")
    assert made > 150
    # What is left is a guard behind another guard.
    assert len(left) <= 0.1 * made
