"""Errors about processes, nodes and this machine; the table of all is in `omtools.errors`."""

from __future__ import annotations

from omtools.errors.base import OmError
from omtools.i18n import N_


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
    remedy = N_("`mosctl nodes` lists those there are.")


class NodeDown(OmError):
    """It does not answer."""

    exit_status = 21
    template = N_("Node {node} does not answer at {address}: {why}.")
    remedy = N_("Is it switched on, is omagentd running there, does a firewall stand between?")


class NodeRefuses(OmError):
    """It said no: its own decision."""

    exit_status = 22
    template = N_("Node {node} accepts no guests: {why}.")


class TooManyFollowed(OmError):
    """An agent hears of so many other nodes at a time, and of no more."""

    exit_status = 100
    template = N_("What happens on {node} cannot be told: {n} other nodes are followed already.")
    remedy = N_("Ask that node itself, or follow all of them, which take turns.")


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


class HostKeyUnknown(HostKeyWrong):
    """Nobody has told this node yet what that one's key is."""

    exit_status = 73
    template = N_("Node {node} at {address} is not known yet: {known_hosts} has no key for {host}.")
    remedy = N_("`ssh-keyscan -p {port} {host}` prints the line for it; see that it is the true one.")


class KeyNotAuthorised(OmError):
    """It does not know our key."""

    exit_status = 27
    template = N_("Node {node} does not accept the key {key}.")
    remedy = N_("Its public half belongs into authorized_nodes there; a person's into authorized_keys.")


class LinkLost(OmError):
    """The connection broke before the process had moved."""

    exit_status = 28
    template = N_("The link to node {node} broke: {why}. The process runs on at home.")


class KeeperLost(LinkLost):
    """Who kept a process that is away is gone: with the other node, with the wire, or killed."""

    exit_status = 91
    template = N_("The keeper of process {pid} has ended, and with it most likely the process.")
    remedy = N_("`mps` on its home node shows whether it lives.")


class RestoreFailed(OmError):
    """The process could not be built there."""

    exit_status = 29
    template = N_("Node {node} could not build the process: {why}. It runs on where it was.")


class NoAgent(OmError):
    """Nothing answers on this node's socket."""

    exit_status = 30
    template = N_("No omagentd answers at {socket}.")
    remedy = N_("Start it with `openmosix start`, or work in a lab: `omlab up`, then `omlab shell mCii`.")


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


class AddressMissing(BadConfiguration):
    """This machine has not (yet) the address that its configuration says; another try may succeed."""

    exit_status = 90
    remedy = N_("Is the network up?")


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


class MaskForbids(OmError):
    """The owner's cluster mask leaves that node out."""

    exit_status = 67
    template = N_("Process {pid} may not run on node {node}: its cluster mask forbids it.")
    remedy = N_("Its owner sets the mask: migfilter, mignodes, migpolicy.")


class StaysThere(OmError):
    """It was asked where it runs best, and that is where it is."""

    exit_status = 68
    template = N_("Process {pid} stays where it is: {reason}.")


class NotInCluster(OmError):
    """This node has not what belongs to a cluster."""

    exit_status = 69
    template = N_("That needs a cluster key: {why}.")
    remedy = N_("`omkey create` makes a cluster, `omkey join` joins one.")


class BadCertificate(OmError):
    """What was signed, or is to be, is not right."""

    exit_status = 70
    template = N_("The certificate is refused: {why}.")


class NotWaiting(OmError):
    """Nobody of that name asks to join."""

    exit_status = 71
    template = N_("Nobody called {who} waits to join.")
    remedy = N_("`omkey list` shows who does.")


class NotJoined(OmError):
    """The cluster has not taken this node."""

    exit_status = 72
    template = N_("This node has not joined: {why}.")
