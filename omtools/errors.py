"""Everything that can go wrong, in one table: what it says, its exit status, its remedy.

OmError
├── UsageError                2   the command line
├── about a process
│   ├── NoSuchProcess        10
│   ├── ZombieProcess        11
│   ├── KernelThread         12
│   ├── NotYourProcess       13
│   ├── AlreadyTraced        14
│   ├── ForeignArchitecture  15
│   ├── MigrationRunning     16
│   ├── AtHomeAlready        17
│   ├── CannotMigrate        18
│   ├── ThereAlready         19
│   ├── ProcessEnded         34
│   └── MigrationStalled     37
├── about a node
│   ├── UnknownNode          20
│   ├── NodeDown             21
│   ├── NodeRefuses          22
│   ├── NodeFull             23
│   ├── KernelDiffers        24
│   ├── ProcessorLacks       25
│   ├── HostKeyWrong         26
│   ├── KeyNotAuthorised     27
│   ├── LinkLost             28
│   └── RestoreFailed        29
├── about this machine
│   ├── NoAgent              30
│   ├── AgentVersion         31
│   ├── KernelLacks          32
│   ├── BadMap               33
│   ├── BadConfiguration     35
│   ├── AgentRunning         36
│   ├── BadRequest           38
│   ├── NotAllowed           39
│   ├── BadExports           43
│   ├── FilesRefused         44
│   ├── CannotMount          46
│   └── CannotUnmount        47
├── about the workshop
│   ├── LessonError          53
│   ├── NoSuchLesson         54
│   ├── NodeShellError       55
│   ├── LessonFails          56
│   └── LoginFailed          57
├── about the simulator
│   ├── BadScenario          58
│   └── NoSuchScenario       59
└── about the lab
    ├── LabError             40
    ├── LabNotUp             41
    ├── LabNoSuchNode        42
    ├── MetalProgramMissing  48
    ├── MetalNoRoom          49
    ├── MetalImageFailed     50
    ├── MetalBootFailed      51
    └── MetalMachineOff      52

An error travels between processes as its name and its fields (`to_wire`, `from_wire`) and is worded
where it is read, in the reader's language. Exit status 1 means "it worked, and the answer is no".
"""

from __future__ import annotations

from typing import ClassVar

from omtools.i18n import N_, _


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


class NoSuchProcess(OmError):
    """Nothing has that pid."""

    exit_status = 10
    template = N_("There is no process {pid}.")
    remedy = N_("`mps` lists yours.")


class ZombieProcess(OmError):
    """It has ended and waits for its parent."""

    exit_status = 11
    template = N_("Process {pid} has ended already; only its exit status still waits for its parent.")


class KernelThread(OmError):
    """It has no user part to move."""

    exit_status = 12
    template = N_("{pid} is a kernel thread: it has no user part that could move.")


class NotYourProcess(OmError):
    """Another user's process, or one that may not be traced."""

    exit_status = 13
    template = N_("Process {pid} may not be migrated by {user}: {why}.")
    remedy = N_("Ask its owner, or root.")


class AlreadyTraced(OmError):
    """ptrace allows one tracer."""

    exit_status = 14
    template = N_("Process {pid} is already traced by process {tracer}.")
    remedy = N_("End the debugger or strace that holds it, then try again.")


class ForeignArchitecture(OmError):
    """Only 64-bit x86 processes are carried."""

    exit_status = 15
    template = N_("Process {pid} runs {architecture} code; only 64-bit x86 programs can move.")


class MigrationRunning(OmError):
    """One move at a time."""

    exit_status = 16
    template = N_("Process {pid} is being migrated at this moment.")
    remedy = N_("Wait for it to arrive, then ask again.")


class AtHomeAlready(OmError):
    """It is where it is wanted: at home."""

    exit_status = 17
    template = N_("Process {pid} is at home already.")


class CannotMigrate(OmError):
    """Something the process uses ties it to its home."""

    exit_status = 18
    template = N_("Process {pid} cannot migrate now: {reason}.")


class ThereAlready(OmError):
    """It is where it is wanted: on that node."""

    exit_status = 19
    template = N_("Process {pid} runs on node {node} already.")


class ProcessEnded(OmError):
    """It ended before it could move."""

    exit_status = 34
    template = N_("Process {pid} ended before it could be moved.")


class MigrationStalled(OmError):
    """The keeper has not said a word for too long; the agent stops waiting, the keeper may not have."""

    exit_status = 37
    template = N_("The migration of process {pid} has said nothing for {seconds} s (it was {phase}).")
    remedy = N_("`mps` shows where the process is.")


class UnknownNode(OmError):
    """Not in the map."""

    exit_status = 20
    template = N_("There is no node {node} in this cluster.")
    remedy = N_("`mosctl status` shows this node, the map lists the others.")


class NodeDown(OmError):
    """It does not answer."""

    exit_status = 21
    template = N_("Node {node} does not answer at {address}: {why}.")
    remedy = N_("Is it switched on, is omagentd running there, does a firewall stand between?")


class NodeRefuses(OmError):
    """It said no: its own decision."""

    exit_status = 22
    template = N_("Node {node} accepts no guests: {why}.")


class NodeFull(OmError):
    """It has not the memory for this guest."""

    exit_status = 23
    template = N_("Node {node} has {free_mb} MB free and the process needs {needed_mb} MB.")


class KernelDiffers(OmError):
    """Its kernel cannot host processes of ours."""

    exit_status = 24
    template = N_("Node {node} runs another kernel ({theirs}, here {ours}): {why}.")


class ProcessorLacks(OmError):
    """Its processor lacks what programs here may use."""

    exit_status = 25
    template = N_("The processor of node {node} lacks {features}, which programs started here may use.")


class HostKeyWrong(OmError):
    """It is not who it says it is."""

    exit_status = 26
    template = N_("Node {node} at {address} shows a host key that is not the one in {known_hosts}.")
    remedy = N_("If it was reinstalled, replace its line there; if not, something else answers there.")


class KeyNotAuthorised(OmError):
    """It does not know our key."""

    exit_status = 27
    template = N_("Node {node} does not accept the key {key}.")
    remedy = N_("Add its public half to the authorised keys of that node.")


class LinkLost(OmError):
    """The connection broke before the process had moved."""

    exit_status = 28
    template = N_("The link to node {node} broke: {why}. The process runs on at home.")


class RestoreFailed(OmError):
    """The process could not be built there."""

    exit_status = 29
    template = N_("Node {node} could not build the process: {why}. It runs on where it was.")


class NoAgent(OmError):
    """Nothing answers on this node's socket."""

    exit_status = 30
    template = N_("No omagentd answers at {socket}.")
    remedy = N_("Start it with `omagentd`, or work in a lab: `omlab up`, then `omlab shell mCii`.")


class AgentVersion(OmError):
    """It speaks another version of the API."""

    exit_status = 31
    template = N_("The agent is version {theirs}, this command is version {ours}.")
    remedy = N_("Restart the agent after an upgrade: running migrated processes survive it.")


class KernelLacks(OmError):
    """The kernel, or a setting of it, withholds something."""

    exit_status = 32
    template = N_("This machine does not allow {feature}: {why}.")
    remedy = N_("`omcheck` tells what that costs and how to get it.")


class BadMap(OmError):
    """The map file has an error."""

    exit_status = 33
    template = N_("{path}, line {line}: {why}.")


class BadConfiguration(OmError):
    """A configuration file has an error, or is missing."""

    exit_status = 35
    template = N_("{path}: {why}.")


class AgentRunning(OmError):
    """One agent per node."""

    exit_status = 36
    template = N_("An omagentd (pid {pid}) serves {socket} already.")


class BadRequest(OmError):
    """What arrived at the agent is not of its API."""

    exit_status = 38
    template = N_("The agent did not understand: {why}.")


class NotAllowed(OmError):
    """A right is missing that has nothing to do with one process."""

    exit_status = 39
    template = N_("{user} may not do that ({what}): {why}.")


class BadExports(OmError):
    """The list of directories that a node offers has an error."""

    exit_status = 43
    template = N_("{path}, line {line}: {why}.")


class FilesRefused(OmError):
    """A node does not let others at its files."""

    exit_status = 44
    template = N_("Node {node} does not give its files: {why}.")


class CannotMount(OmError):
    """A file system cannot be mounted at that place."""

    exit_status = 46
    template = N_("{target} cannot be mounted: {why}.")
    remedy = N_("Everything that does not need this mount works without it.")


class CannotUnmount(OmError):
    """A mount cannot be taken away."""

    exit_status = 47
    template = N_("{target} cannot be unmounted: {why}.")
    remedy = N_("As root: `umount -l {target}`.")


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
