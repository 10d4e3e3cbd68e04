// What was found out about this device, such as which forms of kernels are right on it: kept so that only the first visit pays for it.

const CACHE = "peregrine";
const PLACE = "peregrine-findings";

/** Kept findings. They are of one browser, its version and one adapter. */
export class Findings {
  constructor(device, text) {
    Object.assign(this, { device, text });
  }

  /** What is kept about this device; nothing where the browser keeps nothing. */
  static async read() {
    const adapter = await navigator.gpu?.requestAdapter();
    const { vendor, architecture, device, description } = adapter?.info ?? {};
    const own = [navigator.userAgent, vendor, architecture, device, description].join(" | ");
    try {
      const kept = await (await caches.open(CACHE)).match(PLACE);
      const { device: of, text } = (await kept?.json()) ?? {};
      return new Findings(own, of === own ? text : undefined);
    } catch {
      return new Findings(own);
    }
  }

  async write(text) {
    if (text === this.text) return;
    try {
      await (await caches.open(CACHE)).put(PLACE, new Response(JSON.stringify({ device: this.device, text })));
    } catch {
      // The next visit finds it out again.
    }
  }
}
