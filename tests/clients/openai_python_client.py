"""OpenAI's Python package: whole and streamed answers, log-probabilities, JSON schemas, tools, cancellation and errors."""

import asyncio
import json

import openai

client = openai.OpenAI(max_retries=0)
MODEL = client.models.list().data[0].id
HELLO = [{"role": "user", "content": "Hello!"}]
GREEDY = dict(model=MODEL, temperature=0, max_tokens=24)

whole = client.chat.completions.create(messages=HELLO, **GREEDY)
text = whole.choices[0].message.content
assert text and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

pieces, usage = [], None
for chunk in client.chat.completions.create(
    messages=HELLO, stream=True, stream_options={"include_usage": True}, **GREEDY
):
    pieces += [choice.delta.content or "" for choice in chunk.choices]
    usage = chunk.usage or usage
assert "".join(pieces) == text and usage == whole.usage, (pieces, usage)

scored = client.chat.completions.create(messages=HELLO, logprobs=True, top_logprobs=3, **GREEDY)
tokens = scored.choices[0].logprobs.content
assert all(len(token.top_logprobs) == 3 and token.logprob == token.top_logprobs[0].logprob for token in tokens)

several = client.completions.create(prompt=["One", "Two"], n=2, model=MODEL, max_tokens=4, seed=5)
assert [choice.index for choice in several.choices] == [0, 1, 2, 3]

schema = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
shaped = client.chat.completions.create(
    messages=[{"role": "user", "content": "What colour is the sky?"}],
    response_format={"type": "json_schema", "json_schema": {"name": "sky", "schema": schema, "strict": True}},
    **GREEDY,
)
assert json.loads(shaped.choices[0].message.content)["colour"] in ("red", "blue")

# The shipped model's template offers no tools.
weather = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
for problem, request in [
    (openai.BadRequestError, dict(messages=HELLO, model=MODEL, tools=[weather])),
    (openai.BadRequestError, dict(messages=HELLO, temperature="hot", model=MODEL)),
    (openai.BadRequestError, dict(messages=[], model=MODEL)),
]:
    try:
        client.chat.completions.create(**request)
        raise AssertionError(request)
    except problem as error:
        assert error.body["message"] and error.body["type"] == "invalid_request_error"
try:
    client.models.retrieve("gpt-4")
    raise AssertionError("an unknown model was found")
except openai.NotFoundError:
    pass


async def concurrently():
    async with openai.AsyncOpenAI(max_retries=0) as many:
        ask = lambda seed: many.completions.create(prompt="Once", model=MODEL, max_tokens=12, seed=seed)
        alone = [(await ask(seed)).choices[0].text for seed in range(8)]
        together = await asyncio.gather(*(ask(seed % 8) for seed in range(64)))
        assert [answer.choices[0].text for answer in together] == alone * 8
        # A stream that is left early; the server goes on.
        stream = await many.completions.create(prompt="Once", model=MODEL, max_tokens=4000, stream=True)
        async for _ in stream:
            break
        await stream.close()


asyncio.run(concurrently())
print("openai", openai.__version__, "whole, streamed, scored, shaped, refused, 64 at once")
