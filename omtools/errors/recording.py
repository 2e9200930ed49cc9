"""Errors about recordings of the cluster; the table of all is in `omtools.errors`."""

from __future__ import annotations

from omtools.errors.base import OmError
from omtools.i18n import N_


class NoRecording(OmError):
    """There is nothing to look back at."""

    exit_status = 120
    template = N_("Nothing was recorded in {path}.")
    remedy = N_("`omcollector -d` records from now on.")


class BadRecording(OmError):
    """The file is none of ours, or it is damaged."""

    exit_status = 121
    template = N_("{path} is no recording that can be read: {why}.")


class CannotRecord(OmError):
    """There is no room, or no right to write; what was recorded before is whole."""

    exit_status = 122
    template = N_("Nothing can be recorded in {path}: {why}.")
    remedy = N_("What was recorded so far is kept.")


class RecordedAlready(OmError):
    """Two collectors would write the same things."""

    exit_status = 123
    template = N_("An omcollector (pid {pid}) records in {path} already.")
    remedy = N_("`omcollector -k` ends it.")


class InThePast(OmError):
    """What was is shown; nothing can be done there."""

    exit_status = 124
    template = N_("This is the past: `{command}` was not done.")
    remedy = N_("Go back to the present first.")
