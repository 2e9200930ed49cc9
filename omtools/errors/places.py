"""Errors about labs, lessons, scenarios and screens; the table of all is in `omtools.errors`."""

from __future__ import annotations

from omtools.errors.base import OmError
from omtools.i18n import N_


class LabError(OmError):
    """The lab could not be built or taken down."""

    exit_status = 40
    template = N_("The lab: {why}.")


class LabNotUp(OmError):
    """There is no lab to talk to."""

    exit_status = 41
    template = N_("No lab is up.")
    remedy = N_("Start one with `omlab up`.")


class LabNoSuchNode(OmError):
    """The lab has other nodes."""

    exit_status = 42
    template = N_("The lab has no node {node}; its nodes are {nodes}.")


class MetalProgramMissing(OmError):
    """A program or file that a lab of machines is made with is not installed."""

    exit_status = 48
    template = N_("{what} is missing, which the machines need: {purpose}.")
    remedy = N_("`apt-get install --no-install-recommends {package}`.")


class MetalNoRoom(OmError):
    """Memory or disk space is too little for a lab of machines."""

    exit_status = 49
    template = N_("{free_mb} MB of {what} are free and the machines need {needed_mb} MB.")
    remedy = N_("Make room, then try again.")


class MetalImageFailed(OmError):
    """The image that the machines boot could not be built."""

    exit_status = 50
    template = N_("The machines' image cannot be built: {why}.")


class MetalBootFailed(OmError):
    """A machine was switched on and did not come up."""

    exit_status = 51
    template = N_("{node} did not come up: {why}.")
    remedy = N_("`omlab console {node}` shows its screen; all of it is in {record}.")


class MetalMachineOff(OmError):
    """Something was asked of a machine that has no power."""

    exit_status = 52
    template = N_("{node} is switched off.")
    remedy = N_("`omlab power on {node}` switches it on.")


class MetalNotHere(OmError):
    """This machine cannot be one of the two of a lab of machines."""

    exit_status = 116
    template = N_("This machine cannot be mCii: {why}.")
    remedy = N_("`omlab up --metal` makes mCii a machine of its own, and needs no rights.")


class MetalIsHere(OmError):
    """Something was asked of mCii that only a machine of its own can do."""

    exit_status = 117
    template = N_("{node} is this machine: {what} is not for it.")
    remedy = N_("`omlab shell {node}` takes you there, `omlab down` ends it.")


class NetbootRefused(OmError):
    """The netboot server cannot do its work."""

    exit_status = 118
    template = N_("Machines cannot boot from here: {why}.")
    remedy = N_("`omnetboot plan` shows what would be done.")


class NetbootNoSuchMachine(OmError):
    """A machine is not on the list of those that asked to boot from here."""

    exit_status = 119
    template = N_("No machine {machine} has asked to boot from here.")
    remedy = N_("`omnetboot list` shows those that have.")


class LessonError(OmError):
    """A lesson's file is not written as it should be."""

    exit_status = 53
    template = N_("{path}, line {line}: {why}.")


class NoSuchLesson(OmError):
    """The workshop has others."""

    exit_status = 54
    template = N_("There is no lesson {lesson} in {where}.")
    remedy = N_("`omsh --list` shows those there are.")


class NodeShellError(OmError):
    """A shell could not be started on a node, or has ended too early."""

    exit_status = 55
    template = N_("There is no shell on {node}: {why}.")


class LessonFails(OmError):
    """Played by itself, a lesson does not do what it promises."""

    exit_status = 56
    template = N_("{failed} of {total} steps do not do what they should.")


class LoginFailed(OmError):
    """A machine cannot be reached over SSH, or lets us not in."""

    exit_status = 57
    template = N_("{host} does not let you in: {why}.")
    remedy = N_("`ssh {host}` should work first; omsh uses the same keys and known hosts.")


class BadScenario(OmError):
    """What is to be simulated is not described as it should be."""

    exit_status = 58
    template = N_("The scenario {path} cannot be simulated: {why}.")
    remedy = N_("`omsim --list` shows those that can.")


class NoSuchScenario(OmError):
    """Neither the name of a scenario nor a file."""

    exit_status = 59
    template = N_("There is neither a scenario nor a file called {scenario}.")
    remedy = N_("The scenarios are: {known}.")


class BadKeys(OmError):
    """The file with a user's own keys has an error."""

    exit_status = 60
    template = N_("{path}: {why}.")
    remedy = N_("`omtui --list-keys` shows the names of all keys.")


class NoTerminal(OmError):
    """A full-screen program without a screen."""

    exit_status = 61
    template = N_("{program} draws on a terminal, and here is none.")
    remedy = N_("`{program} --once` prints one picture as text.")


class ReadOnly(OmError):
    """Somebody asked to look only."""

    exit_status = 62
    template = N_("This is the read-only mode: `{command}` was not done.")
