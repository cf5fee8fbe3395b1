"""One flipped bit in any column of any table of a city: the self-check finds it and says where."""

from __future__ import annotations
