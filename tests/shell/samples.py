"""Lessons for tests."""

from __future__ import annotations

from pathlib import Path

from omtools.shell.lesson import Lesson
from omtools.shell.parse import parse

HEAD = """\
+++
id = "sample"
title = "A sample"
about = "About."
minutes = 1
+++
Intro.
"""

STEP = """
## {name}: Title of {name}

Goal: the goal of {name}.

Text of {name}.

```try
touch {name}
```

```check
{name}: file_contains node=mCii path=~/{name} pattern="(?P<word>x*)"
```

Hint: one

Hint: two

Hint: three

```solution
touch {name}
echo x > {name}
```

After: Found {{{name}.word}}.
"""


def text(*names: str, head: str = HEAD) -> str:
    return head + "".join(STEP.format(name=name) for name in names)


def lesson(*names: str, identity: str = "sample", number: int = 1) -> Lesson:
    content = text(*names, head=HEAD.replace('"sample"', f'"{identity}"'))
    return parse(Path(f"{number:02}-{identity}.md"), content, "en")
