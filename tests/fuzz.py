"""How long the tests with random input run; ``from fuzz import budget``."""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

Test = Callable[..., None]


def budget(examples: int) -> Callable[[Test], Test]:
    """Return a decorator to put above ``@given``: the same examples in every run.

    With ASR_FUZZ_SECONDS set, each test is repeated with new examples for so many seconds.
    """
    seconds = float(os.environ.get("ASR_FUZZ_SECONDS", "0"))
    chosen = settings(
        max_examples=examples,
        derandomize=seconds == 0,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Test) -> Test:
        once: Test = chosen(test)

        @functools.wraps(once)
        def repeated(*args: Any, **kwargs: Any) -> None:
            end = time.monotonic() + seconds
            once(*args, **kwargs)
            while time.monotonic() < end:
                once(*args, **kwargs)

        return repeated if seconds else once

    return decorate
