"""Search among the rows of a gallery: exact by one product, exact in stages, or approximate.

==============  ======  ==========================  ==========================================
kind            exact   memory per row of d         needs
==============  ======  ==========================  ==========================================
``float32``     yes     4 d bytes                   nothing
``float16``     yes     2 d bytes, and the rows     the extra ``search``
``int8``        yes     d bytes, and the rows       the extra ``search``
``graph``       no      d + about 300 bytes, and    the extra ``search``
                        the rows
==============  ======  ==========================  ==========================================

"The rows" are the float32 originals that decide among the few best: in memory, or, when a folder
is named, in an unlinked file there (see :mod:`edgeface.gallery.search.rows`).

All exact kinds give the same answers to the last bit: the coarse product only leaves out rows
that provably cannot be among the best, and the score of the rest is computed from the originals.
"""

from __future__ import annotations

from edgeface.gallery.search.base import Hit, SearchIndex, is_usable
from edgeface.gallery.search.selection import SEARCH_KINDS, SearchOptions, open_search

__all__ = [
    "SEARCH_KINDS",
    "Hit",
    "SearchIndex",
    "SearchOptions",
    "is_usable",
    "open_search",
]
