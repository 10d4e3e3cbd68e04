"""LiteLLM: whole and streamed answers through its common interface, and its mapping of errors."""

import os

import litellm

model = "openai/tiny-chat"
common = dict(model=model, api_base=os.environ["OPENAI_BASE_URL"], api_key="none", temperature=0, max_tokens=24)
messages = [{"role": "user", "content": "Hello!"}]
whole = litellm.completion(messages=messages, **common)
pieces = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(messages=messages, stream=True, **common)]
assert "".join(pieces) == whole.choices[0].message.content
text = litellm.text_completion(prompt="Once upon a time", **{**common, "model": "text-completion-openai/tiny-chat"})
assert text.choices[0].text
try:
    litellm.completion(messages=messages, num_retries=0, n=0, **common)
    raise AssertionError("n: 0 was taken")
except litellm.BadRequestError:
    pass
print("litellm: chat, stream, text, refused")
