"""LangChain: a model in a chain, streamed, in a batch, and with a schema for its answer."""

from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

model = ChatOpenAI(model="tiny-chat", temperature=0, max_tokens=24, max_retries=0)
chain = ChatPromptTemplate.from_messages([("user", "Say hello to {name}.")]) | model
whole = chain.invoke({"name": "Tom"}).content
assert whole
assert "".join(piece.content for piece in chain.stream({"name": "Tom"})) == whole
assert [answer.content for answer in chain.batch([{"name": "Tom"}] * 4)] == [whole] * 4


class Count(BaseModel):
    number: int


counted = model.with_structured_output(Count, method="json_schema").invoke("How many legs has a dog?")
assert isinstance(counted.number, int)
assert OpenAI(model="tiny-chat", max_tokens=8, temperature=0).invoke("Once upon a time")
print("langchain: chain, stream, batch, structured output, text")
