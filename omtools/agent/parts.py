"""Answers that are longer than a line may be: in parts that are lines, and whole again. Pure.

No line is ever longer than `api.MAX_LINE`, either way; only what an agent answers may come in parts, so what
is asked of an agent stays as small as it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from omtools.agent import api
from omtools.errors import BadRequest
from omtools.i18n import _

MAX_ANSWER = 64 << 20  # characters of all parts of one answer
_PART = api.MAX_LINE // 8  # characters of a part: JSON may need six bytes for one, and a frame around them
_decoder = msgspec.json.Decoder(api.FromAgent)


def lines_of(answer: api.Answer) -> Iterator[bytes]:
    """The answer as one line, or as several where it is too long for one."""
    line = api.line_of(answer)
    if len(line) <= api.MAX_LINE:
        yield line
        return
    text = line.decode()
    for start in range(0, len(text), _PART):
        end = start + _PART
        yield api.line_of(api.Part(answer.id, text[start:end], end >= len(text)))


class Joining:
    """Makes parts whole. One for each conversation."""

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}
        self._held = 0

    def take(self, message: api.FromAgent) -> api.FromAgent | None:
        """A message; None for a part after which others will come.

        Raises:
            BadRequest: the parts are too many, or make no answer.
        """
        if not isinstance(message, api.Part):
            return message
        self._held += len(message.text)
        if self._held > MAX_ANSWER:
            raise BadRequest(why=_("an answer of more than {n} characters").format(n=MAX_ANSWER))
        parts = self._parts.setdefault(message.id, [])
        parts.append(message.text)
        if not message.last:
            return None
        text = "".join(self._parts.pop(message.id))
        self._held -= len(text)
        try:
            whole: api.FromAgent = _decoder.decode(text)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BadRequest(why=str(error)) from None
        if not isinstance(whole, api.Answer) or whole.id != message.id:
            raise BadRequest(why=type(whole).__name__)
        return whole
