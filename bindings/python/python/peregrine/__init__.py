"""Falcon Mamba, Mamba and Vision Mamba on any GPU.

>>> import peregrine
>>> model = peregrine.load()  # tiny-chat, which ships with the package; or a path, or a name on the Hugging Face hub
>>> with model.chat(temperature=0) as session:
...     print(session.send("What is 3 plus 4?").text())
3 plus 4 is 7.
"""

from ._errors import (
    BadPicture,
    BadSetting,
    Busy,
    Cancelled,
    Closed,
    DeviceError,
    DeviceLost,
    Error,
    FileError,
    FileMissing,
    HubError,
    ModelError,
    ModelNotFound,
    NoDevice,
    NoFreeSlot,
    NothingThere,
    OutOfMemory,
    StateError,
)
from ._native import (
    Adapter,
    Answer,
    Array,
    Class,
    Features,
    Mark,
    Model,
    Session,
    VisionModel,
    adapters,
    load,
    load_vision,
)
from ._native import __VERSION__ as __version__
from ._options import AnswerOptions, GenerateOptions, Message, SamplingOptions

__all__ = [
    "Adapter",
    "Answer",
    "AnswerOptions",
    "Array",
    "BadPicture",
    "BadSetting",
    "Busy",
    "Cancelled",
    "Class",
    "Closed",
    "DeviceError",
    "DeviceLost",
    "Error",
    "Features",
    "FileError",
    "FileMissing",
    "GenerateOptions",
    "HubError",
    "Mark",
    "Message",
    "Model",
    "ModelError",
    "ModelNotFound",
    "NoDevice",
    "NoFreeSlot",
    "NothingThere",
    "OutOfMemory",
    "SamplingOptions",
    "Session",
    "StateError",
    "VisionModel",
    "__version__",
    "adapters",
    "load",
    "load_vision",
]
