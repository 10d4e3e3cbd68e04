// Drives the page of examples/web in Chromium, and compares with the program of this system. Environment: SITE, PEREGRINE, CHROMIUM.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { serve } from "./site.mjs";

const { SITE, PEREGRINE, CHROMIUM } = process.env;
const WEIGHTS = "/models/tiny-chat/model.safetensors";
const QUESTION = "What is 3 plus 4?";
const folder = mkdtempSync(join(tmpdir(), "peregrine-web-"));
let site;
let context;
let page;

/** Opens the page in a browser with its own profile, whose storage lasts. */
async function browse(profile = "profile", prepare = async (context) => {}) {
  const context = await chromium.launchPersistentContext(join(folder, profile), {
    executablePath: CHROMIUM,
    args: ["--no-sandbox", "--enable-unsafe-webgpu"],
    acceptDownloads: true,
  });
  await prepare(context);
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(180_000);
  page.on("pageerror", (error) => console.error(`page: ${error}`));
  await page.goto(site.url);
  return { context, page };
}

/** Waits until the page is ready for a message. */
const idle = (of = page) => of.locator("#text:enabled").waitFor();

/** Sends a message and waits for the end of its answer; gives the answer's text. */
async function ask(text, of = page) {
  const before = await of.locator(".assistant").count();
  await of.fill("#text", text);
  await of.press("#text", "Enter");
  await of.locator(".assistant").nth(before).waitFor();
  await idle(of);
  return of.locator(".assistant").last().textContent();
}

/** Begins a new conversation. */
async function clear() {
  await page.click("#clear");
  await page.locator("#log:empty").waitFor({ state: "attached" });
}

/** Runs the program on this system's device. */
const native = (...given) =>
  execFileSync(PEREGRINE, ["run", "-cnv", "--temp", "0", ...given, "-m", join(SITE, "models/tiny-chat")], { encoding: "utf8", stdio: ["pipe", "pipe", "ignore"] });

before(async () => {
  site = await serve(SITE);
  // The first download ends early, and goes on by itself.
  site.cut(WEIGHTS, 1_000_000);
  ({ context, page } = await browse());
  await idle();
  await page.fill("#temperature", "0");
  await page.locator("#temperature").blur();
  await idle();
});

after(async () => {
  await context?.close();
  site?.close();
  rmSync(folder, { recursive: true, force: true });
});

test("a download that was cut off goes on by a range", () => {
  const asked = site.requests.filter(({ path }) => path === WEIGHTS);
  assert.equal(asked.length, 2);
  assert.equal(asked[0].range, undefined);
  assert.match(asked[1].range, /^bytes=[1-9]\d*-$/);
});

test("an answer is the same as natively", async () => {
  const answer = await ask(QUESTION);
  assert.equal(answer, native("-p", QUESTION).trimEnd());
  assert.match(await page.locator("#status").textContent(), /^\d+ tokens, [\d.]+ a second$/);
});

test("stop, undo and another answer", async () => {
  await page.fill("#text", "Tell me a story about a fox.");
  await page.press("#text", "Enter");
  await page.locator(".assistant", { hasText: /\w+ \w+ \w+/ }).last().waitFor();
  await page.click("#stop");
  await idle();
  assert.match(await page.locator("#status").textContent(), /stopped/);
  await page.click("#retry");
  await idle();
  const whole = await page.locator(".assistant").last().textContent();
  assert.doesNotMatch(await page.locator("#status").textContent(), /stopped/);
  await page.click("#undo");
  await page.locator(".message").nth(1).waitFor();
  await idle();
  assert.equal(await page.locator(".message").count(), 2);
  assert.equal(await page.inputValue("#text"), "Tell me a story about a fox.");
  assert.equal(await ask("Tell me a story about a fox."), whole);
  await page.click("#undo");
  await idle();
});

test("a state goes from the page to the program and back", async () => {
  await clear();
  await ask("My name is Anna.");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  const state = join(folder, "page.state");
  await download.saveAs(state);
  const there = join(folder, "there.state");
  const answer = native("--load-state", state, "--save-state", there, "-p", "What is my name?").trimEnd();
  assert.match(answer, /Anna/);
  assert.equal(await ask("What is my name?"), answer);
  await clear();
  await page.setInputFiles("#restore", there);
  await page.locator(".message").nth(3).waitFor();
  assert.equal(await page.locator(".message").last().textContent(), answer);
  await idle();
  assert.ok(await ask(QUESTION));
});

test("what is wrong is said, and the page goes on", async () => {
  const error = page.locator("#error");
  const damaged = readFileSync(join(folder, "page.state"));
  damaged[damaged.length - 100] ^= 1;
  await page.setInputFiles("#restore", { name: "damaged.state", mimeType: "", buffer: damaged });
  await error.waitFor();
  assert.match(await error.textContent(), /snapshot.*damaged/is);
  assert.ok(await ask(QUESTION));
  assert.ok(await error.isHidden());
  await page.fill("#url", "models/no-such-model");
  await page.press("#url", "Enter");
  await error.waitFor();
  assert.match(await error.textContent(), /no-such-model\/config\.json: the server answers 404/);
  assert.ok(await ask(QUESTION), "the model that was open still is");
});

test("a model's files are taken from the browser's storage the second time, also by another page", async () => {
  await context.close();
  site.requests.length = 0;
  ({ context, page } = await browse());
  await idle();
  assert.ok(site.requests.some(({ path }) => path.endsWith(".wasm")));
  assert.deepEqual(site.requests.filter(({ path }) => path.startsWith("/models/")), []);
  assert.ok(await ask(QUESTION));
});

test("a user's own files are opened", async () => {
  const names = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
  await page.setInputFiles("#files", names.map((name) => join(SITE, "models/tiny-chat", name)));
  await page.locator("#text:disabled").waitFor();
  await idle();
  assert.ok(await ask(QUESTION));
});

test("the GPU is tested, and a planted fault is found", async () => {
  await page.click("#test");
  await page.locator("#copy:enabled").waitFor();
  assert.match(await page.locator("#verdict").textContent(), /^pass/i);
  assert.ok((await page.locator("#groups tr").count()) > 15);
  const planted = await page.evaluate(() => {
    const worker = new Worker("worker.js", { type: "module" });
    const told = new Promise((done) => (worker.onmessage = ({ data }) => !data.event && done(data.value)));
    worker.postMessage({ id: 1, name: "test", argument: { only: "scan", plant: "scan" } });
    return told;
  });
  assert.equal(planted.passed, false);
  assert.ok(planted.groups.some(({ name, failures }) => name === "scan" && failures > 0));
});

test("a browser without WebGPU is told so", async () => {
  const worker = readFileSync(join(SITE, "worker.js"), "utf8");
  const without = await browse("without", async (context) => {
    const body = `Object.defineProperty(Object.getPrototypeOf(navigator), "gpu", { value: undefined });\n${worker}`;
    await context.route("**/worker.js", (route) => route.fulfill({ contentType: "text/javascript", body }));
  });
  const error = without.page.locator("#error");
  await error.waitFor();
  assert.match(await error.textContent(), /browser with WebGPU/);
  await without.context.close();
});
