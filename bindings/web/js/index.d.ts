// peregrine for browsers: language models over WebGPU.

/** A file of a model: its name and bytes. */
export type ModelFile = [name: string, bytes: Uint8Array];

/** An error with the library's text. */
export interface PeregrineError extends Error {
  name: "PeregrineError";
  /** What to act on: a group of the library's errors, such as "NoDevice", "ModelUnusable" or "OutOfMemory", or "Busy", "Closed", "BadArgument". */
  code: string;
  /** The library's name of the error. */
  kind: string;
}

export interface LoadOptions {
  /** The model's name in messages; that of its folder or file unless given. */
  name?: string;
  /** Sessions at a time; 4 unless given. */
  slots?: number;
  /** Converts the weights, such as "q8_0" or "q4_K"; as stored unless given. */
  weights?: string;
  /** Most tokens of a prompt in one step. */
  chunk?: number;
  /** Called with bytes done and in all, while files are fetched and then while weights go to the device. */
  progress?: (stage: "fetch" | "load", done: number, total: number) => void;
  /** Ends the download. */
  signal?: AbortSignal;
}

/**
 * Loads a model onto the GPU: from the URL of a folder in Hugging Face's layout or of a .gguf file, from the `File`s that a user
 * chose, or from bytes. In a worker a fetched model is kept in the browser's private file system, and a download that was cut off
 * goes on. The weights must fit the memory of WebAssembly, 4 GB, and the GPU's limit for buffers.
 */
export function load(model: string | Iterable<File | ModelFile>, options?: LoadOptions): Promise<Model>;

/** The files at a URL, as `load` gets them. */
export function fetchModel(
  url: string,
  options?: { progress?: (done: number, total: number) => void; signal?: AbortSignal },
): Promise<ModelFile[]>;

/** Deletes what the browser keeps of the model at a URL. */
export function forgetModel(url: string): Promise<void>;

/** One line of a self-test's table. */
export interface TestGroup {
  section: "device" | "kernel" | "speed" | "model";
  name: string;
  outcome: "pass" | "FAIL" | "known failures";
  checks: number;
  failures: number;
  /** Cases for which there was no time. */
  left_out: number;
  seconds: number;
  /** The worst error as a share of its limit. */
  share_of_limit: number;
  /** Checks that failed or found something out. */
  listed: { name: string; outcome: string; fault?: string; value?: string }[];
}

export interface TestReport {
  passed: boolean;
  verdict: string;
  checks: number;
  seconds: number;
  groups: TestGroup[];
  /** The report as Markdown, for an issue. */
  markdown: string;
  [field: string]: unknown;
}

/**
 * Tests the device: what the driver promises, and every kernel against its reference. `group` is called with each line of the table
 * as it ends. `only` runs what has this text in its name; `plant` corrupts the results of one kernel, to show that it is noticed.
 */
export function selfTest(options?: {
  only?: string;
  plant?: string;
  group?: (group: TestGroup) => void;
}): Promise<TestReport>;

/** Bytes of the module's memory; a module's memory does not shrink. */
export function memory(): number;

/** The version of the library. */
export function version(): Promise<string>;

/** How tokens are chosen: the model's own values unless given. */
export interface Sampling {
  /** 0 takes the most probable token. */
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  /** The same seed gives the same text on one adapter; random unless given. */
  seed?: number;
  repeatPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  repeatLastN?: number;
  logitBias?: Record<number, number>;
}

export interface AnswerOptions {
  maxTokens?: number;
  /** Texts that end the answer; they are not part of it. */
  stop?: string | string[];
  /** Ends the answer within a token; who waits for its next piece gets the signal's reason. `cancel` ends it without an error. */
  signal?: AbortSignal;
}

/** A model on the GPU. */
export class Model {
  private constructor();
  /** A new conversation, in a free slot. */
  chat(options?: Sampling & { system?: string }): Promise<Session>;
  /** The logits [tokens][vocab] after each of these ids. */
  logits(ids: Uint32Array): Promise<Float32Array>;
  tokenize(text: string): Uint32Array;
  /** Opens the device again after it was lost; sessions continue. Gives false, and does nothing, if it works. */
  recover(): Promise<boolean>;
  /** Throws if the device is lost or has refused something. */
  check(): void;
  /** Lines that the user should see, such as forms of kernels that are wrong on this driver and not used. Each is given once. */
  takeNotes(): string[];
  readonly adapter: string;
  /** Bytes of the GPU's memory that it takes. */
  readonly deviceMemory: number;
  readonly canChat: boolean;
  /** Frees it once its sessions are closed. */
  free(): void;
}

export interface Message {
  role: string;
  content: string;
  [field: string]: unknown;
}

/** A conversation. Its state has a fixed size at any length. */
export class Session {
  private constructor();
  /** Sends a message as the user. */
  send(text: string, options?: AnswerOptions): Answer;
  /** Continues a text, without a chat template. */
  complete(text: string, options?: AnswerOptions): Answer;
  /** Another answer to the last message. */
  retry(options?: AnswerOptions): Answer;
  /** Continues the last answer after its token limit or a cancel. */
  resume(options?: AnswerOptions): Answer;
  /** Ends the answer or call in progress. */
  cancel(): void;
  /** Changes how tokens are chosen from the next answer on. */
  setSampling(options: Sampling): Promise<void>;
  /** Takes back the last message and its answer; gives the message's text. */
  undo(): Promise<string>;
  clear(): Promise<void>;
  /** An independent copy in a free slot. */
  fork(): Promise<Session>;
  mark(): Promise<Mark>;
  backTo(mark: Mark): Promise<void>;
  /** The conversation with its state, as the bytes of a state file: `peregrine chat --load-state` opens it too. */
  snapshot(): Promise<Uint8Array>;
  /** Continues from a snapshot. Gives what may make a difference, such as another adapter. */
  restore(snapshot: Uint8Array): Promise<string[]>;
  readonly messages: Message[];
  /** Tokens that the state has consumed. */
  readonly position: number;
  /** Frees its slot. */
  close(): void;
}

/** A moment of a session. */
export class Mark {
  private constructor();
  free(): void;
}

/** An answer: pieces of text as they are generated. `break` out of its loop ends it. */
export class Answer implements AsyncIterableIterator<string> {
  private constructor();
  next(): Promise<IteratorResult<string, undefined>>;
  return(value?: unknown): Promise<IteratorResult<string, undefined>>;
  [Symbol.asyncIterator](): this;
  /** The whole text, from here to the end. */
  text(): Promise<string>;
  /** Ends the answer within a token. */
  cancel(): void;
  /** Ends it at once; the session is as after the last piece. */
  close(): void;
  /** Why it ended. */
  readonly finish: "eos" | "length" | "stop" | "cancelled" | "failed" | undefined;
  /** Tokens generated so far. */
  readonly tokens: number;
}
