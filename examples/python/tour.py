# %% [markdown]
# # peregrine from Python
#
# A tour in cells: run them one by one in an editor that knows `# %%`, or all with `python examples/python/tour.py`. Everything here
# comes with the package, nothing is downloaded. `pip install ./bindings/python` installs it.

# %% A model and its device
import asyncio
import os

import peregrine

print(*peregrine.adapters(), sep="\n")
model = peregrine.load()  # or a folder, a GGUF file, a name on the Hugging Face hub
print(model)

# %% A chat, piece by piece
session = model.chat(temperature=0)
for piece in session.send("What is 3 plus 4?"):
    print(piece, end="", flush=True)
print()

# %% Its state has a fixed size: undo, forks and snapshots take the same time at any length
with session.fork() as other:
    print("asked in a fork:", other.send("Tell me a story about a fox.", max_tokens=20).text())
print("not asked here:", session.messages)
snapshot = session.snapshot()
session.undo()
session.restore(snapshot)
print(f"{len(snapshot) / 1e6:.1f} MB restored: {session}")

# %% JSON that a schema allows
schema = {
    "type": "object",
    "properties": {"animal": {"enum": ["fox", "bear"]}},
    "required": ["animal"],
    "additionalProperties": False,
}
print(session.send("Which animal do you like?", json_schema=schema, max_tokens=30).text())
session.close()

# %% Several answers at once share the steps of the device
async def ask(question: str) -> str:
    with model.chat(temperature=0) as session:
        return await session.send(question)


async def together() -> None:
    print(await asyncio.gather(*(ask(f"What is {n} plus 4?") for n in range(1, 4))))


asyncio.run(together())

# %% Logits, which NumPy reads in place: numpy.asarray(logits)
ids = model.tokenize("Once upon a time", add_special=True)
last = model.logits(ids).tolist()[-1]
best = max(range(model.vocab), key=last.__getitem__)
print("after", repr(model.detokenize(ids)), "comes", repr(model.detokenize([best])))

# %% Pictures
digits = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../models/vim-digits/samples")
with peregrine.load_vision() as vision:
    names = sorted(os.listdir(digits))[:3]
    for name, classes in zip(names, vision.classify([os.path.join(digits, name) for name in names], top=2)):
        print(name, classes)

# %% An error says what to do
try:
    peregrine.load("no-such-model")
except FileNotFoundError as error:
    print(type(error).__name__ + ":", error)
model.close()
