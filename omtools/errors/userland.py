"""Errors of setting a node up and of measuring it; the table of all is in `omtools.errors`."""

from __future__ import annotations

from omtools.errors.base import OmError
from omtools.i18n import N_


class ProgramMissing(OmError):
    """A program of the system that a command works with is not there."""

    exit_status = 45
    template = N_("{command} needs the program {program}, which is not installed.")
    remedy = N_("On Debian: `apt-get install {package}`.")


class NotInMap(OmError):
    """This machine is none of the nodes of the map; the sentence is the original's."""

    exit_status = 63
    template = N_("the supplied table is well-formatted, but my IP address ({address}) is not there!")
    remedy = N_("`setpe -p N` says which node this is, if its name leads to another address.")


class StillAway(OmError):
    """The agent should end, and processes could not be moved home before."""

    exit_status = 64
    template = N_("Not all processes could be moved home ({which}), so the agent goes on.")
    remedy = N_("`openmosix stop --leave` ends it and leaves them where they run.")


class AgentStays(OmError):
    """The agent was told to end and did not."""

    exit_status = 65
    template = N_("The agent (pid {pid}) does not end: {why}.")


class CannotMeasure(OmError):
    """The costs of moving could not be measured."""

    exit_status = 66
    template = N_("Moving to {node} could not be measured: {why}.")
    remedy = N_("What was measured of other nodes is kept.")
