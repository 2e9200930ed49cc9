"""Why a process stays, in words. Pure."""

from __future__ import annotations

from omtools.cluster.constraints import REASONS
from omtools.i18n import _

_WORDS = {str(reason): words for reason, words in REASONS.items()}


def reason_for_people(reason: str) -> str:
    """Of a decision's reason: that of one of the balancer's, or what it says itself."""
    return _(_WORDS.get(reason, reason))
