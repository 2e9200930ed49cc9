"""Compile modules of an image; run as a script by an isolated interpreter.

Standard input: a JSON list of [path in the image, file here]. Writes the bytecode of the n-th into OUTPUT/n.
A module that does not compile (libraries carry some for other versions) gets none.
"""

import contextlib
import json
import os
import py_compile
import sys

output = sys.argv[1]
os.makedirs(output)
for number, (path, source) in enumerate(json.load(sys.stdin)):
    with contextlib.suppress(py_compile.PyCompileError):
        py_compile.compile(
            source, os.path.join(output, str(number)), f"/{path}", doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )  # fmt: skip
