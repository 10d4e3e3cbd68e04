"""The classes of the extension. A call that waits for the device lets other threads run, and ends soon after Ctrl-C.

>>> import peregrine
>>> model = peregrine.load(slots=2)
"""

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self, Unpack, final, overload

from ._options import AnswerOptions, GenerateOptions, Message, SamplingOptions

__VERSION__: str


def adapters() -> list[Adapter]:
    """The adapters of this machine, best first: a real GPU before a CPU."""

def load(
    model: str | PathLike[str] | None = None,
    *,
    gpu: int | str | None = None,
    slots: int = 4,
    weights: str | None = None,
    memory: int | None = None,
    chunk: int | None = None,
    math: Literal["exact", "fast"] = "exact",
    progress: Callable[[Literal["download", "load"], int, int], object] | None = None,
) -> Model:
    """Loads a language model: a folder as Hugging Face has it, a GGUF file, or a model of the Hugging Face hub, which is fetched once
    into its cache: "user/repo", "user/repo:Q4_K_M", "user/repo@revision", or a short name such as "falcon-mamba-7b-instruct". What
    exists is a path. Without a model: tiny-chat, which ships with the package.

    gpu: the index of an adapter in `adapters()`, or a part of its name; without it, the best one.
    slots: sessions that it can have at a time. Each takes the memory of a state (40 MB for the 7B).
    weights: the format of matrices on the device, such as "q8_0" or "q4_K"; without it, as they are stored.
    memory: most bytes of device memory; without it, what the driver reports as free, if it does.
    chunk: most tokens of a prompt that are read in a step.
    math: "fast" rounds activations.
    progress: is called with a stage, and bytes done and in all. An exception of it ends the load.

    What is worth knowing about the model or the device becomes a `UserWarning`.
    """

def load_vision(
    model: str | PathLike[str] | None = None,
    *,
    gpu: int | str | None = None,
    batch: int | None = None,
    weights: str | None = None,
    memory: int | None = None,
    math: Literal["exact", "fast"] = "exact",
    progress: Callable[[Literal["download", "load"], int, int], object] | None = None,
) -> VisionModel:
    """Loads a Vision Mamba. Without a model: vim-digits, which ships with the package. `batch`: most pictures at a time; the rest as
    for `load`."""

@final
class Adapter:
    """A GPU, or a CPU that takes the place of one."""

    @property
    def name(self) -> str: ...
    @property
    def backend(self) -> str:
        """ "Vulkan", "Metal", "Dx12" or "Gl"."""
    @property
    def kind(self) -> str:
        """ "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other"."""
    @property
    def driver(self) -> str: ...
    @property
    def cpu(self) -> bool:
        """Whether it is a CPU."""
    @property
    def unfit(self) -> str | None:
        """Why it cannot be used; None: it can."""

@final
class Model:
    """A language model on a device. Its sessions share its steps: several answers at once cost little more than one.

    >>> model
    <peregrine.Model tiny-chat (compiled in) on ...: ... MB, 2 slots>
    """

    def chat(self, *, system: str | None = None, **sampling: Unpack[SamplingOptions]) -> Session:
        """A new conversation, in a free slot. NoFreeSlot: there is none."""
    def generate(self, prompt: str | Sequence[int], **options: Unpack[GenerateOptions]) -> Answer:
        """Continues a text, or ids, in a free slot, which is free again when the answer has ended, is closed or dropped. Begins when the
        first piece is asked for. Text that spells a special token is plain text.

        >>> model.generate("Once upon a time", temperature=0, max_tokens=3).text()
        ', there was'
        """
    def logits(self, ids: Sequence[int]) -> Array:
        """The logits after each id, [ids, vocabulary], computed in a free slot.

        >>> model.logits([5, 6, 7]).shape == (3, model.vocab)
        True
        """
    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False) -> list[int]:
        """The ids of a text. `add_special`: with the tokens that the tokenizer puts around one. `parse_special`: text that spells a
        special token becomes that token."""
    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids.

        >>> model.detokenize(model.tokenize("A fox!"))
        'A fox!'
        """
    def recover(self) -> bool:
        """Opens the device again after DeviceLost and loads the model anew; every session continues where it was. False: the device
        works."""
    def close(self) -> None:
        """Frees its memory, as soon as its sessions are closed too."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    @property
    def name(self) -> str:
        """Its path, or "tiny-chat (compiled in)"."""
    @property
    def adapter(self) -> Adapter:
        """The device that it is on."""
    @property
    def memory(self) -> int:
        """Bytes on the device."""
    @property
    def slots(self) -> int:
        """Sessions that it can have at a time."""
    @property
    def vocab(self) -> int:
        """Ids that it knows."""
    @property
    def eos(self) -> list[int]:
        """Ids that end an answer."""
    @property
    def can_chat(self) -> bool:
        """Whether it has a chat template."""

@final
class Session:
    """A conversation in a slot. Its state has a fixed size, so every copy, snapshot and undo takes the same short time at any length.

    One call at a time: while an answer is unfinished, other calls than `cancel` and `close` raise Busy. After an error the conversation
    is as before the call.

    >>> session = model.chat(temperature=0)
    >>> for piece in session.send("What is 3 plus 4?"):
    ...     print(piece, end="")
    3 plus 4 is 7.
    >>> session
    <peregrine.Session of tiny-chat (compiled in): 2 messages, ... tokens>
    """

    def send(self, text: str, **options: Unpack[AnswerOptions]) -> Answer:
        """Sends a message as the user; the assistant's answer begins when its first piece is asked for."""
    def converse(self, messages: Sequence[Message | Mapping[str, Any]], **options: Unpack[AnswerOptions]) -> Answer:
        """Replaces the conversation by these messages and answers the last. What they share with it is not read again."""
    def complete(self, prompt: str | Sequence[int], **options: Unpack[AnswerOptions]) -> Answer:
        """Feeds plain text, or ids, and generates after them."""
    def resume(self, **options: Unpack[AnswerOptions]) -> Answer:
        """Continues an answer after its token limit or a cancel: the text is the same as without the interruption."""
    def retry(self, **options: Unpack[AnswerOptions]) -> Answer:
        """Replaces the last answer by a new one; with the same seed by the same."""
    def feed(self, ids: Sequence[int]) -> None:
        """Reads ids without generating."""
    def set_sampling(self, **sampling: Unpack[SamplingOptions]) -> None:
        """Changes how tokens are chosen from the next answer on; what is not given stays."""
    def system(self, text: str) -> None:
        """Sets the system prompt; a conversation in progress is read again with it."""
    def clear(self) -> None:
        """Begins anew."""
    def undo(self) -> Message:
        """Removes the user's last message and its answer; returns the message.

        >>> session.undo()
        {'role': 'user', 'content': 'What is 3 plus 4?'}
        """
    def fork(self) -> Session:
        """A copy in a free slot. The two are independent."""
    def mark(self) -> Mark:
        """This moment, for `back_to`."""
    def back_to(self, mark: Mark) -> None:
        """Goes back to a moment of this session, or of another one of the model."""
    def snapshot(self) -> bytes:
        """The conversation with its state: what the command line saves with --save-state. Continues in another process, or on another
        machine."""
    def restore(self, snapshot: bytes) -> list[str]:
        """Continues from a snapshot instead. Returns what may make the text differ from that of an uninterrupted session; if there is
        nothing, it is the same."""
    def cancel(self) -> None:
        """Ends the call in progress, from any thread: an answer after its current token, a prompt after its current chunk. Without a
        call in progress it does nothing."""
    def close(self) -> None:
        """Frees its slot; a call in progress is cancelled, and an unfinished answer frees the slot when it is closed or dropped."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    @property
    def messages(self) -> list[Message]:
        """The conversation so far."""
    @property
    def position(self) -> int:
        """Tokens read and generated so far."""

@final
class Answer(Iterator[str], AsyncIterator[str]):
    """Text as it is generated, in whole characters: `for piece in answer`, or `async for piece in answer`, or `await answer` for all of
    it. When it ends, is closed or dropped, the session is as after the last piece that was given out.

    After Ctrl-C, or where a task that waits for it is cancelled, it has ended.
    """

    def __next__(self) -> str: ...
    async def __anext__(self) -> str: ...
    def __await__(self) -> Generator[Any, None, str]: ...
    def text(self) -> str:
        """Its whole text, from the first piece on."""
    def cancel(self) -> None:
        """Ends it after the current token, from any thread."""
    def close(self) -> None:
        """Ends it and gives its session free."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    @property
    def finish(self) -> Literal["eos", "length", "stop", "cancelled", "failed"] | None:
        """Why it ended; None while it goes on."""

@final
class Mark:
    """A moment of a session, to go back to any number of times."""

    @property
    def messages(self) -> list[Message]: ...
    @property
    def position(self) -> int: ...

@final
class Array:
    """Numbers of 32 bits that NumPy, memoryview and others read in place, by the buffer protocol: `numpy.asarray(array)` copies
    nothing. It is read-only.

    >>> memoryview(model.logits([5, 6])).format
    'f'
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def tolist(self) -> list[Any]:
        """The numbers as nested lists of floats."""

@final
class VisionModel:
    """A Vision Mamba on a device. One call at a time; another one raises Busy."""

    @overload
    def classify(self, pictures: str | PathLike[str] | bytes, *, top: int = 5) -> list[Class]: ...  # type: ignore[overload-overlap]
    @overload
    def classify(self, pictures: Sequence[str | PathLike[str] | bytes], *, top: int = 5) -> list[list[Class]]: ...
    @overload
    def features(  # type: ignore[overload-overlap]
        self,
        pictures: str | PathLike[str] | bytes,
        *,
        map: bool = False,
        layers: Sequence[int] = (),
        image: tuple[int, int] | None = None,
    ) -> Features: ...
    @overload
    def features(
        self,
        pictures: Sequence[str | PathLike[str] | bytes],
        *,
        map: bool = False,
        layers: Sequence[int] = (),
        image: tuple[int, int] | None = None,
    ) -> list[Features]: ...
    def cancel(self) -> None:
        """Ends the call in progress after its batch, from any thread: it raises Cancelled."""
    def close(self) -> None:
        """Frees its memory."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def adapter(self) -> Adapter: ...
    @property
    def classes(self) -> list[str]:
        """The names of its classes."""

@final
class Class:
    """A class of a picture."""

    @property
    def index(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def logit(self) -> float: ...
    @property
    def probability(self) -> float: ...

@final
class Features:
    """Features of a picture."""

    @property
    def class_token(self) -> Array:
        """[E]: the class token after the final norm."""
    @property
    def map(self) -> Array | None:
        """[E, height, width]: the last layer after the final norm, where it was asked for."""
    @property
    def layers(self) -> list[Array]:
        """[E, height, width] of each layer that was asked for."""
