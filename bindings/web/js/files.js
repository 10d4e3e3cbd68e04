// The files of a model from a URL, kept in the browser's origin private file system: a second load takes nothing from the network, and
// a download that was cut off goes on where it ended. Files are written in a worker only; on a page they are fetched into memory.

const FOLDER = "peregrine";
/** Of a folder in Hugging Face's layout, beside its weights; only the first must be there. */
const SMALL = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];
const WEIGHTS = "model.safetensors";
const INDEX = "model.safetensors.index.json";
/** How often a download that makes no progress is tried. */
const TRIES = 4;

/** The files of the model at `url`, a folder or a .gguf file, as pairs of name and bytes. */
export async function fetchModel(url, { progress, signal } = {}) {
  const base = new URL(url, self.location.href);
  const work = async () => {
    const store = await Store.open(base.href);
    const known = await store?.list();
    if (known) return Promise.all(known.map(async (name) => [name, await store.read(name)]));
    const files = await fetchAll(base, new Fetcher(store, progress, signal));
    await store?.setList(files.map(([name]) => name));
    return files;
  };
  // Two tabs do not write the same file.
  return navigator.locks ? navigator.locks.request(`peregrine ${base.href}`, { signal }, work) : work();
}

/** Deletes what is kept of the model at `url`. */
export async function forgetModel(url) {
  const store = await Store.open(new URL(url, self.location.href).href);
  await store?.remove();
}

async function fetchAll(base, fetcher) {
  if (base.pathname.endsWith(".gguf")) {
    const name = decodeURIComponent(base.pathname.split("/").pop());
    return [[name, await fetcher.file(base, name)]];
  }
  const folder = base.pathname.endsWith("/") ? base : new URL(`${base.pathname}/${base.search}`, base);
  const at = (name) => {
    const file = new URL(name, folder);
    file.search = folder.search;
    return file;
  };
  const files = [];
  const add = async (name, wanted) => {
    const bytes = await fetcher.file(at(name), name, wanted);
    if (bytes) files.push([name, bytes]);
    return bytes;
  };
  for (const name of SMALL) await add(name, name === SMALL[0]);
  const index = await fetcher.file(at(INDEX), INDEX, false);
  const names = index ? Object.values(JSON.parse(new TextDecoder().decode(index)).weight_map) : [WEIGHTS];
  for (const name of new Set(names)) await add(name, true);
  return files;
}

/** Downloads files one after the other and tells how far all of them are. */
class Fetcher {
  #before = 0;

  constructor(store, progress, signal) {
    Object.assign(this, { store, progress, signal });
  }

  /** A file's bytes; `undefined` for one that is not there and not `wanted`. */
  async file(url, name, wanted = true) {
    let have = -1;
    for (let tries = 1; ; tries++) {
      const sink = (await this.store?.write(name)) ?? new Memory();
      try {
        // After progress the count of tries begins anew.
        if (sink.size > have) tries = 1;
        have = sink.size;
        if (!(await this.#get(url, sink, wanted))) return undefined;
        this.#before += sink.size;
        return sink.bytes();
      } catch (error) {
        if (error.name === "AbortError" || error.final || tries >= TRIES) throw error;
        await new Promise((done) => setTimeout(done, 250 * 2 ** tries));
      } finally {
        sink.close();
      }
    }
  }

  async #get(url, sink, wanted) {
    const headers = sink.size > 0 && sink.tag ? { Range: `bytes=${sink.size}-`, "If-Range": sink.tag } : {};
    const response = await fetch(url, { headers, signal: this.signal });
    if (response.status === 404 && !wanted) return false;
    if (response.status === 416) {
      // Nothing is left to send, or the file is another one now.
      if (response.headers.get("Content-Range") === `bytes */${sink.size}`) return true;
      sink.begin();
      throw new Error(`${url}: the server refused to go on with the download`);
    }
    if (!response.ok) {
      const error = new Error(`${url}: the server answers ${response.status} ${response.statusText}`.trim());
      // Trying again helps against a busy or failing server alone.
      error.final = response.status < 500 && response.status !== 429;
      throw error;
    }
    const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "");
    const goesOn = response.status === 206 && Number(range?.[1]) === sink.size;
    if (!goesOn) sink.begin(response.headers.get("ETag"));
    // Compressed, the length is not that of the file.
    const plain = !response.headers.get("Content-Encoding");
    const length = response.headers.get("Content-Length");
    const total = goesOn ? Number(range[2]) : plain && length ? Number(length) : undefined;
    const show = () => this.progress?.(this.#before + sink.size, this.#before + Math.max(total ?? 0, sink.size));
    show();
    for await (const piece of pieces(response.body)) {
      sink.add(piece);
      show();
    }
    if (total !== undefined && sink.size !== total) {
      throw new Error(`${url}: the download ended at ${sink.size} of ${total} bytes`);
    }
    return true;
  }
}

/** The pieces of a stream; not every browser iterates over one. */
async function* pieces(stream) {
  const reader = stream.getReader();
  try {
    for (let piece; !(piece = await reader.read()).done; ) yield piece.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** A download into memory. */
class Memory {
  size = 0;
  #pieces = [];

  begin() {
    this.size = 0;
    this.#pieces = [];
  }

  add(piece) {
    this.#pieces.push(piece);
    this.size += piece.length;
  }

  bytes() {
    const bytes = new Uint8Array(this.size);
    let at = 0;
    for (const piece of this.#pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  close() {}
}

/** A download into a file. It begins with 128 bytes for the server's tag of the version, so that both are written together. */
class Stored {
  static HEAD = 128;

  constructor(access) {
    this.access = access;
    this.size = Math.max(access.getSize() - Stored.HEAD, 0);
    const head = new Uint8Array(Stored.HEAD);
    access.read(head, { at: 0 });
    this.tag = new TextDecoder().decode(head.subarray(0, Math.max(head.indexOf(0), 0))) || undefined;
  }

  begin(tag) {
    this.access.truncate(0);
    this.size = 0;
    // A weak tag, or a long one, does not tell one version from another: without one the download does not go on later.
    this.tag = tag?.startsWith('"') && tag.length < Stored.HEAD ? tag : undefined;
    const head = new Uint8Array(Stored.HEAD);
    head.set(new TextEncoder().encode(this.tag ?? "").subarray(0, Stored.HEAD - 1));
    this.access.write(head, { at: 0 });
  }

  add(piece) {
    if (this.access.write(piece, { at: Stored.HEAD + this.size }) !== piece.length) {
      throw Object.assign(new Error("the browser's storage for this site is full"), { final: true });
    }
    this.size += piece.length;
  }

  bytes() {
    this.access.flush();
    const bytes = new Uint8Array(this.size);
    this.access.read(bytes, { at: Stored.HEAD });
    return bytes;
  }

  close() {
    this.access.close();
  }
}

/** What is kept of one model: a folder with its files and, once all are complete, their list. */
class Store {
  static LIST = "complete.json";

  /** The store of a URL; `undefined` where the browser keeps no files. */
  static async open(url) {
    if (!("FileSystemSyncAccessHandle" in self)) return undefined;
    try {
      const root = await navigator.storage.getDirectory();
      const all = await root.getDirectoryHandle(FOLDER, { create: true });
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url)));
      const name = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
      return new Store(all, name, await all.getDirectoryHandle(name, { create: true }));
    } catch {
      return undefined; // such as in a private window
    }
  }

  constructor(all, name, folder) {
    Object.assign(this, { all, name, folder });
  }

  /** The names of all files, if all are complete. */
  async list() {
    try {
      const file = await (await this.folder.getFileHandle(Store.LIST)).getFile();
      return JSON.parse(await file.text());
    } catch {
      return undefined;
    }
  }

  async setList(names) {
    const access = await this.#access(Store.LIST);
    access.truncate(0);
    access.write(new TextEncoder().encode(JSON.stringify(names)), { at: 0 });
    access.flush();
    access.close();
  }

  /** A file to be written, with what it has so far. */
  async write(name) {
    return new Stored(await this.#access(name));
  }

  async read(name) {
    const sink = await this.write(name);
    try {
      return sink.bytes();
    } finally {
      sink.close();
    }
  }

  async #access(name) {
    // Its characters may be any of a URL's path.
    const handle = await this.folder.getFileHandle(encodeURIComponent(name), { create: true });
    return handle.createSyncAccessHandle();
  }

  async remove() {
    await this.all.removeEntry(this.name, { recursive: true });
  }
}
