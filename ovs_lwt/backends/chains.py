"""Where entries begin that stand one behind the other, each saying its own length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def starts(steps: NDArray[np.intp]) -> NDArray[np.intp]:
    """The places where entries begin, ascending; the first is at 0.

    steps: for every place, how far on the next entry would begin if one began there
    Follows all links at once: each round knows twice as many entries, and jumps twice as far.
    """
    places = len(steps)
    jump = np.append(np.minimum(np.arange(places) + np.maximum(steps, 1), places), places)
    found = np.zeros(1, np.intp)
    while jump[found[0]] < places:
        ahead = jump[found]
        found = np.concatenate([found, ahead[ahead < places]])
        jump = jump[jump]
    return np.unique(found)
