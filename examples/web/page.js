// A chat page. The model runs in worker.js; this file shows the conversation and passes on what the user does.

const $ = (id) => document.getElementById(id);

/** Calls of the worker. */
class Engine {
  #worker = new Worker("worker.js", { type: "module" });
  #calls = new Map();
  #last = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, value, error, event } }) => {
      const call = this.#calls.get(id);
      if (event) return call.tell?.(event);
      this.#calls.delete(id);
      if (error === undefined) call.resolve(value);
      else call.reject(new Error(error));
    };
    this.#worker.onerror = (event) => {
      for (const call of this.#calls.values()) call.reject(new Error(event.message ?? "the worker does not start"));
      this.#calls.clear();
    };
  }

  call(name, argument, tell) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject, tell });
      this.#worker.postMessage({ id, name, argument });
    });
  }
}

const engine = new Engine();
let messages = [];
let busy = false;
let answering = false;
let opened = false;

/** Does what the user asked for, one thing at a time; an error is shown, and the page goes on. */
async function attempt(work) {
  if (busy) return;
  busy = true;
  $("error").hidden = true;
  enable();
  try {
    await work();
  } catch (error) {
    $("error").textContent = error.message;
    $("error").hidden = false;
  } finally {
    busy = false;
    enable();
  }
}

function enable() {
  const idle = opened && !busy;
  for (const id of ["text", "send", "clear", "save", "restore", "temperature"]) $(id).disabled = !idle;
  for (const id of ["retry", "undo"]) $(id).disabled = !idle || !messages.some(({ role }) => role === "user");
  $("stop").disabled = !answering;
  for (const control of $("open").querySelectorAll("input, button")) control.disabled = busy;
  $("test").disabled = busy;
}

function show(all = messages) {
  messages = all;
  $("log").replaceChildren(...messages.filter(({ role }) => role !== "system").map(element));
  scroll();
}

function element({ role, content }) {
  const message = document.createElement("div");
  message.className = `message ${role}`;
  message.textContent = content;
  return message;
}

function scroll() {
  $("log").scrollTop = $("log").scrollHeight;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

async function open(model) {
  opened = false;
  const bar = $("progress");
  const stages = { fetch: "Fetching", load: "Loading" };
  const tell = ({ stage, done, total }) => {
    bar.hidden = false;
    bar.value = total ? done / total : 0;
    $("status").textContent = `${stages[stage]}: ${megabytes(done)} of ${megabytes(total)}`;
  };
  $("status").textContent = "Opening …";
  try {
    const { adapter, memory, notes, messages: said } = await engine.call("open", { model }, tell);
    opened = true;
    $("status").textContent = [`WebGPU on ${adapter || "this device"}, ${megabytes(memory)} of its memory`, ...notes].join("; ");
    show(said);
  } catch (error) {
    $("status").textContent = "";
    opened = await engine.call("isOpen");
    throw error;
  } finally {
    bar.hidden = true;
  }
}

/** Streams an answer below the messages. */
async function answer(name, argument) {
  answering = true;
  enable();
  const message = element({ role: "assistant", content: "" });
  $("log").append(message);
  scroll();
  try {
    const { finish, tokens, seconds, messages: said } = await engine.call(name, argument, ({ piece }) => {
      message.append(piece);
      scroll();
    });
    show(said);
    const ends = { length: ", ended at the limit of tokens", cancelled: ", stopped", eos: "", stop: "", failed: ", failed" };
    $("status").textContent = `${tokens} tokens, ${(tokens / seconds).toFixed(1)} a second${ends[finish] ?? ""}`;
  } catch (error) {
    show(); // the session is as before
    throw error;
  } finally {
    answering = false;
  }
}

$("open").onsubmit = (event) => {
  event.preventDefault();
  attempt(() => open($("url").value));
};
$("files").onchange = ({ target }) => attempt(() => open([...target.files]));

$("ask").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || busy || !opened) return;
  attempt(async () => {
    $("text").value = "";
    $("log").append(element({ role: "user", content: text }));
    try {
      await answer("send", { text });
    } catch (error) {
      $("text").value = text;
      throw error;
    }
  });
};
$("text").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
};
document.onkeydown = (event) => {
  if (event.key === "Escape" && answering) engine.call("stop");
};
$("stop").onclick = () => engine.call("stop");
$("retry").onclick = () => attempt(() => {
  if (messages.at(-1)?.role === "assistant") $("log").lastChild.remove();
  return answer("retry");
});
$("undo").onclick = () => attempt(async () => {
  const { text, messages: said } = await engine.call("undo");
  show(said);
  $("text").value = text;
});
$("clear").onclick = () => attempt(async () => show((await engine.call("clear")).messages));
$("temperature").onchange = ({ target }) => attempt(() => {
  const options = target.value === "" ? {} : { temperature: Number(target.value) };
  return engine.call("sample", { options });
});
$("save").onclick = () => attempt(async () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([await engine.call("save")]));
  link.download = "conversation.state";
  link.click();
  URL.revokeObjectURL(link.href);
});
$("restore").onchange = ({ target }) => attempt(async () => {
  const bytes = new Uint8Array(await target.files[0].arrayBuffer());
  target.value = ""; // the same file can be chosen again
  const { warnings, messages: said } = await engine.call("restore", { bytes });
  show(said);
  $("status").textContent = warnings.join("; ");
});

$("test").onclick = () => attempt(async () => {
  $("verdict").textContent = "Testing …";
  $("groups").replaceChildren();
  $("faults").textContent = "";
  $("copy").disabled = true;
  $("report").showModal();
  const row = ({ section, name, checks, left_out, share_of_limit, seconds, outcome }) => {
    const count = left_out ? `${checks}, ${left_out} left out` : checks;
    const share = share_of_limit ? `${Math.round(100 * share_of_limit)} %` : "";
    const tr = document.createElement("tr");
    tr.className = outcome === "pass" ? "" : "fault";
    for (const cell of [section, name, count, share, seconds, outcome]) tr.insertCell().textContent = cell;
    $("groups").append(tr);
  };
  const told = ({ listed }) => {
    for (const { name, fault, value } of listed) $("faults").append(`${name}: ${fault ?? value}\n`);
  };
  try {
    const { verdict, markdown } = await engine.call("test", {}, ({ group }) => {
      row(group);
      told(group);
    });
    $("verdict").textContent = verdict;
    $("copy").disabled = false;
    $("copy").onclick = () => navigator.clipboard.writeText(markdown);
  } catch (error) {
    $("verdict").textContent = error.message;
  }
});

enable();
attempt(() => open($("url").value));
