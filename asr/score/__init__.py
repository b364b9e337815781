"""Error rates of transcripts; nothing here needs torch.

``asr.score`` is both this package and, when called, its function :func:`score`.
"""

import sys
import types
from typing import Any

from asr.score.wer import Counts, Score, score

__all__ = ["Counts", "Score", "score"]


class _CallablePackage(types.ModuleType):
    """Importing a submodule binds ``asr.score`` to the package; calling it scores anyway."""

    def __call__(self, *args: Any, **kwargs: Any) -> Score:
        return score(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
