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
│   ├── MaskForbids          67
│   ├── StaysThere           68
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
│   │   └── HostKeyUnknown   73
│   ├── KeyNotAuthorised     27
│   ├── LinkLost             28
│   │   └── KeeperLost       91
│   ├── RestoreFailed        29
│   └── TooManyFollowed     100
├── about this machine
│   ├── NoAgent              30
│   ├── AgentVersion         31
│   ├── KernelLacks          32
│   ├── BadMap               33
│   ├── BadConfiguration     35
│   │   └── AddressMissing   90
│   ├── AgentRunning         36
│   ├── BadRequest           38
│   ├── NotAllowed           39
│   ├── BadExports           43
│   ├── NotInCluster         69
│   ├── BadCertificate       70
│   ├── NotWaiting           71
│   ├── NotJoined            72
│   ├── FilesRefused         44
│   ├── CannotMount          46
│   ├── CannotUnmount        47
│   └── ProgramMissing       45
├── about setting a node up
│   ├── NotInMap             63
│   ├── StillAway            64
│   ├── AgentStays           65
│   └── CannotMeasure        66
├── about the workshop
│   ├── LessonError          53
│   ├── NoSuchLesson         54
│   ├── NodeShellError       55
│   ├── LessonFails          56
│   └── LoginFailed          57
├── about the screens
│   ├── BadKeys              60
│   ├── NoTerminal           61
│   ├── ReadOnly             62
│   └── CannotListen        125
├── about recordings
│   ├── NoRecording         120
│   ├── BadRecording        121
│   ├── CannotRecord        122
│   ├── RecordedAlready     123
│   └── InThePast           124
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
    ├── MetalMachineOff      52
    ├── MetalNotHere        110
    ├── MetalIsHere         111
    ├── NetbootRefused      112
    └── NetbootNoSuchMachine 113

An error travels between processes as its name and its fields (`to_wire`, `from_wire`) and is worded
where it is read, in the reader's language. Exit status 1 means "it worked, and the answer is no".
"""

from __future__ import annotations

from omtools.errors.base import (
    OmError as OmError,
    UsageError as UsageError,
)
from omtools.errors.cluster import (
    AddressMissing as AddressMissing,
    AgentRunning as AgentRunning,
    AgentVersion as AgentVersion,
    AlreadyTraced as AlreadyTraced,
    AtHomeAlready as AtHomeAlready,
    BadCertificate as BadCertificate,
    BadConfiguration as BadConfiguration,
    BadExports as BadExports,
    BadMap as BadMap,
    BadRequest as BadRequest,
    CannotMigrate as CannotMigrate,
    CannotMount as CannotMount,
    CannotUnmount as CannotUnmount,
    FilesRefused as FilesRefused,
    ForeignArchitecture as ForeignArchitecture,
    HostKeyUnknown as HostKeyUnknown,
    HostKeyWrong as HostKeyWrong,
    KeeperLost as KeeperLost,
    KernelDiffers as KernelDiffers,
    KernelLacks as KernelLacks,
    KernelThread as KernelThread,
    KeyNotAuthorised as KeyNotAuthorised,
    LinkLost as LinkLost,
    MaskForbids as MaskForbids,
    MigrationRunning as MigrationRunning,
    MigrationStalled as MigrationStalled,
    NoAgent as NoAgent,
    NodeDown as NodeDown,
    NodeFull as NodeFull,
    NodeRefuses as NodeRefuses,
    NoSuchProcess as NoSuchProcess,
    NotAllowed as NotAllowed,
    NotInCluster as NotInCluster,
    NotJoined as NotJoined,
    NotWaiting as NotWaiting,
    NotYourProcess as NotYourProcess,
    ProcessEnded as ProcessEnded,
    ProcessorLacks as ProcessorLacks,
    RestoreFailed as RestoreFailed,
    StaysThere as StaysThere,
    ThereAlready as ThereAlready,
    TooManyFollowed as TooManyFollowed,
    UnknownNode as UnknownNode,
    ZombieProcess as ZombieProcess,
)
from omtools.errors.places import (
    BadKeys as BadKeys,
    BadScenario as BadScenario,
    CannotListen as CannotListen,
    LabError as LabError,
    LabNoSuchNode as LabNoSuchNode,
    LabNotUp as LabNotUp,
    LessonError as LessonError,
    LessonFails as LessonFails,
    LoginFailed as LoginFailed,
    MetalBootFailed as MetalBootFailed,
    MetalImageFailed as MetalImageFailed,
    MetalIsHere as MetalIsHere,
    MetalMachineOff as MetalMachineOff,
    MetalNoRoom as MetalNoRoom,
    MetalNotHere as MetalNotHere,
    MetalProgramMissing as MetalProgramMissing,
    NetbootNoSuchMachine as NetbootNoSuchMachine,
    NetbootRefused as NetbootRefused,
    NodeShellError as NodeShellError,
    NoSuchLesson as NoSuchLesson,
    NoSuchScenario as NoSuchScenario,
    NoTerminal as NoTerminal,
    ReadOnly as ReadOnly,
)
from omtools.errors.recording import (
    BadRecording as BadRecording,
    CannotRecord as CannotRecord,
    InThePast as InThePast,
    NoRecording as NoRecording,
    RecordedAlready as RecordedAlready,
)
from omtools.errors.userland import (
    AgentStays as AgentStays,
    CannotMeasure as CannotMeasure,
    NotInMap as NotInMap,
    ProgramMissing as ProgramMissing,
    StillAway as StillAway,
)
