"""What can go wrong. An exception's text is the library's: what failed, where, and what to do. One class for each thing that a
program does about it; `kind` tells them apart further."""


class Error(Exception):
    """Any error of peregrine."""

    kind: str = "Error"
    """The library's name of it, such as "BadGguf"."""


class ModelError(Error):
    """A model's files are damaged, incomplete or of something that peregrine does not run."""


class ModelNotFound(ModelError, FileNotFoundError):
    """There is no model at a path, or a file of it is missing."""


class FileError(Error, OSError):
    """A file could not be read or written."""


class FileMissing(FileError, FileNotFoundError):
    """A file does not exist."""


class BadPicture(Error, ValueError):
    """A picture cannot be decoded."""


class BadSetting(Error, ValueError):
    """An argument is out of range, or an environment variable has an invalid value."""


class StateError(Error):
    """A snapshot is damaged or belongs to another model, or a moment's state is no longer kept."""


class HubError(Error):
    """A model cannot be fetched from the Hugging Face hub."""


class DeviceError(Error):
    """The device failed, or cannot do what was asked for."""


class NoDevice(DeviceError):
    """There is no GPU, or none of that name."""


class DeviceLost(DeviceError):
    """The driver reset or removed the device. `Model.recover()` opens it again, and every session continues."""


class OutOfMemory(DeviceError, MemoryError):
    """The model, or a buffer, does not fit into the device's memory."""


class NoFreeSlot(Error):
    """All slots are in use: close a session, or load the model with more slots."""


class NothingThere(Error):
    """There is no answer to resume or retry, or no message to undo."""


class Cancelled(Error):
    """The call was cancelled. Answers just end, with `finish` "cancelled"."""


class Busy(Error):
    """Another call of the same object is going on, or an answer of the session is unfinished."""


class Closed(Error):
    """The object was closed."""


# Users know them by this name.
for _class in [it for it in vars().values() if isinstance(it, type)]:
    _class.__module__ = "peregrine"
del _class
