// OpenAI's JavaScript package: whole and streamed answers, abort, errors.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const request = { model, temperature: 0, max_tokens: 24, messages: [{ role: "user", content: "Hello!" }] };
const whole = await client.chat.completions.create(request);
let text = "";
for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
  text += chunk.choices[0]?.delta.content ?? "";
}
assert.equal(text, whole.choices[0].message.content);

const helper = client.chat.completions.stream(request);
assert.equal(await helper.finalContent(), text);

const long = await client.completions.create({ model, prompt: "Once", max_tokens: 4000, stream: true });
for await (const _ of long) break;
long.controller.abort();

await assert.rejects(client.chat.completions.create({ ...request, n: 0 }), OpenAI.BadRequestError);
console.log("openai for Node.js: whole, streamed, helper, aborted, refused");
