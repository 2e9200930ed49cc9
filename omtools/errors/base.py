"""What all errors have in common; the table of them is in `omtools.errors`."""

from __future__ import annotations

from typing import ClassVar

from omtools.i18n import N_, _, retold


class _Fields(dict[str, str | int]):
    """Fields of an error; what another version did not send is a question mark."""

    def __missing__(self, name: str) -> str:
        return "?"


class OmError(Exception):
    """One sentence for the user, a unique exit status, and what to do about it."""

    exit_status: ClassVar[int] = 3
    template: ClassVar[str] = N_("{detail}")
    remedy: ClassVar[str] = ""
    registry: ClassVar[dict[str, type[OmError]]] = {}

    def __init_subclass__(cls) -> None:
        OmError.registry[cls.__name__] = cls

    def __init__(self, /, **fields: str | int) -> None:
        self.fields = fields
        super().__init__(fields)

    def __str__(self) -> str:
        fields = _Fields(self.fields)
        for name, value in self.fields.items():
            if isinstance(value, str):
                fields[name] = retold(value)  # another process may have worded it
        sentence = _(self.template).format_map(fields)
        return f"{sentence} {_(self.remedy).format_map(fields)}" if self.remedy else sentence

    def to_wire(self) -> dict[str, str | int]:
        """Name and fields, for another process to raise again."""
        return {"error": type(self).__name__, **self.fields}

    @staticmethod
    def from_wire(wire: dict[str, str | int]) -> OmError:
        """The error that another process raised; an unknown name keeps its fields as the detail."""
        fields = dict(wire)
        name = str(fields.pop("error", ""))
        cls = OmError.registry.get(name)
        if cls is None:
            return OmError(detail=f"{name} {fields}")
        return cls(**fields)


class UsageError(OmError):
    """The command line makes no sense."""

    exit_status = 2
