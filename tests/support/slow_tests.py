"""The mark `slow`: which tests get it by what they call, and what others may not do.

A test is slow if it, one of its fixtures or a helper that they call starts a process, trains a
network or opens a browser. What calls don't show, as in the package's own code, is marked by hand;
a test without the mark that starts a process or takes a step of training fails.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
FOLDERS = {"e2e", "law", "real", "soak"}
STARTERS = {"run", "Popen", "check_call", "check_output"}
TRAINERS = {
    *("fit_fold", "fit_network", "fit_head", "fit_mixture", "train_by_val", "train_network"),
    *("distil", "teach", "Adam", "optimiser"),
}
BROWSERS = {"sync_playwright"}
EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}


def names_of(code: CodeType) -> set[str]:
    """Every name that a function uses, in its inner functions too."""
    inner = [names_of(const) for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*inner)


def reached(functions: list[FunctionType]) -> Iterator[set[str]]:
    """Names used by functions, and by the functions of the tests that they call."""
    seen: set[FunctionType] = set()
    while functions:
        function = functions.pop()
        if function in seen:
            continue
        seen.add(function)
        names = names_of(function.__code__)
        yield names
        known = function.__globals__
        called = [known.get(name) for name in names]
        # Helpers of other files are called as attributes of their modules.
        for module in [value for value in called if getattr(value, "__file__", None)]:
            called += [vars(module).get(name) for name in names]
        functions += [one for one in called if isinstance(one, FunctionType) and is_ours(one)]


def is_ours(function: FunctionType) -> bool:
    return function.__code__.co_filename.startswith(f"{TESTS}/")


def is_slow(item: pytest.Item) -> bool:
    """Whether a test's code shows that it starts a process, trains or opens a browser."""
    if item.path.relative_to(TESTS).parts[0] in FOLDERS:
        return True
    fixtures: Any = getattr(item, "_fixtureinfo", None)
    definitions = [d for found in fixtures.name2fixturedefs.values() for d in found]
    functions = [getattr(item, "function", None), *(d.func for d in definitions)]
    for names in reached([one for one in functions if isinstance(one, FunctionType)]):
        starts = "subprocess" in names and names & STARTERS
        if starts or names & TRAINERS or names & BROWSERS:
            return True
    return False


class Watch:
    """What the running test has done that only a slow one may do."""

    def __init__(self) -> None:
        self.acts: list[str] = []
        self._torch = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: object) -> None:
        if event in EVENTS:
            self.acts.append(event)

    def begin(self) -> None:
        """Forget other tests, and note training from now on if torch has been imported."""
        self.acts.clear()
        module = sys.modules.get("torch.optim.optimizer")
        if module is not None and not self._torch:
            self._torch = True
            module.register_optimizer_step_pre_hook(lambda *_: self.acts.append("training"))
