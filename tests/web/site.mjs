// A static server for the page: with ranges and tags, as servers of models have them, and with the faults that a test asks for.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".wasm": "application/wasm" };

/**
 * Serves a folder, the test data of the repository under /fixtures, and an empty page, /blank. `requests` lists what was asked for;
 * `cut` ends the next answer for a path after so many bytes.
 */
export async function serve(folder, fixtures) {
  const requests = [];
  const cuts = new Map();
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    requests.push({ path, range: request.headers.range });
    if (path === "/blank") return response.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html>");
    const [root, name] = path.startsWith("/fixtures/") ? [fixtures, path.slice("/fixtures".length)] : [folder, path];
    const file = join(root, normalize(name.endsWith("/") ? `${name}index.html` : name));
    const about = await stat(file).catch(() => undefined);
    if (!about?.isFile()) return response.writeHead(404).end();
    const tag = `"${about.size}-${about.mtimeMs}"`;
    const headers = { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", ETag: tag, "Accept-Ranges": "bytes" };
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const first = range && request.headers["if-range"] === tag ? Number(range[1]) : 0;
    if (first && first >= about.size) return response.writeHead(416, { "Content-Range": `bytes */${about.size}` }).end();
    if (first) headers["Content-Range"] = `bytes ${first}-${about.size - 1}/${about.size}`;
    response.writeHead(first ? 206 : 200, { ...headers, "Content-Length": about.size - first });
    const cut = cuts.get(path);
    cuts.delete(path);
    if (cut === undefined) return createReadStream(file, { start: first }).pipe(response);
    const stream = createReadStream(file, { start: first, end: first + cut - 1 });
    stream.on("end", () => response.socket.destroy()).pipe(response, { end: false });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    requests,
    cut: (path, bytes) => cuts.set(path, bytes),
    close: () => server.close(),
  };
}
