/// <reference types="node" />
/// <reference lib="esnext.disposable" />

/**
 * Falcon Mamba, Mamba and Vision Mamba on any GPU.
 *
 * Nothing here blocks the event loop: what waits for the device is a promise, or an answer that is iterated.
 */

/** The version of the library. */
export const version: string;

/** The adapters of this machine, best first. */
export function adapters(): Promise<Adapter[]>;

/**
 * Loads a language model: a folder as Hugging Face has it, a GGUF file, or a model of the Hugging Face hub, which is fetched once into
 * its cache: "user/repo", "user/repo:Q4_K_M", "user/repo@revision", or a short name such as "falcon-mamba-7b-instruct". What exists is a
 * path. Without a model: tiny-chat, which ships with the package.
 *
 * What is worth knowing about the model or the device becomes a warning of the process, named PeregrineWarning.
 */
export function load(model?: string | URL | null, options?: LoadOptions): Promise<Model>;

/** Loads a Vision Mamba. Without a model: vim-digits, which ships with the package. */
export function loadVision(model?: string | URL | null, options?: LoadVisionOptions): Promise<VisionModel>;

export interface CommonLoadOptions {
  /** The index of an adapter in `adapters()`, or a part of its name; without it, the best one. */
  gpu?: number | string | null;
  /** The format of matrices on the device, such as "q8_0" or "q4_K"; without it, as they are stored. */
  weights?: string | null;
  /** Most bytes of device memory; without it, what the driver reports as free, if it does. */
  memory?: number | null;
  /** "fast" rounds activations. */
  math?: 'exact' | 'fast' | null;
  /** Is called with bytes done and in all. What it throws ends the load. */
  onProgress?: ((stage: 'download' | 'load', done: number, total: number) => void) | null;
  /** Ends the load, which then fails with the signal's reason. */
  signal?: AbortSignal | null;
}

export interface LoadOptions extends CommonLoadOptions {
  /** Sessions that it can have at a time; 4 without it. Each takes the memory of a state (40 MB for the 7B). */
  slots?: number | null;
  /** Most tokens of a prompt that are read in a step. */
  chunk?: number | null;
}

export interface LoadVisionOptions extends CommonLoadOptions {
  /** Most pictures at a time. */
  batch?: number | null;
}

/** How tokens are chosen. What is not given is the model's default, or llama.cpp's. */
export interface SamplingOptions {
  /** Divides the logits; 0 always takes the most probable token. */
  temperature?: number | null;
  /** Keeps the k most probable tokens; 0 keeps all. */
  topK?: number | null;
  /** Keeps the most probable tokens until their sum reaches this; 1 keeps all. */
  topP?: number | null;
  /** Keeps tokens at least this fraction as probable as the best; 0 keeps all. */
  minP?: number | null;
  /** Seed of the draws; without it, a random one. */
  seed?: number | bigint | null;
  /** Divides the positive logits of recent tokens and multiplies the negative ones; 1 does nothing. */
  repeatPenalty?: number | null;
  /** Subtracted from the logit of each recent token. */
  presencePenalty?: number | null;
  /** Subtracted from the logit of a recent token once per occurrence. */
  frequencyPenalty?: number | null;
  /** Number of last tokens that penalties look at, at most 4096. */
  repeatLastN?: number | null;
  /** Added to the logits of these ids; -Infinity bans a token. */
  logitBias?: Map<number, number> | Record<number, number> | null;
}

/** When an answer ends, and what it must be. jsonSchema, regex, choice and grammar exclude each other. */
export interface AnswerOptions {
  /** Maximum number of tokens; without it, the model's default, or none. */
  maxTokens?: number | null;
  /** Strings that end the answer and are not part of it. */
  stop?: string | readonly string[] | null;
  /** JSON that this schema allows. */
  jsonSchema?: string | object | null;
  /** A text that this regular expression matches from beginning to end. */
  regex?: string | null;
  /** One of these texts. */
  choice?: readonly string[] | null;
  /** A text of this grammar, in Lark, whose first rule is `start`. */
  grammar?: string | null;
  /** Ends the answer after its current token, or in its prompt. Who waits for it gets the signal's reason. */
  signal?: AbortSignal | null;
}

export interface GenerateOptions extends SamplingOptions, AnswerOptions {}

export interface ChatOptions extends SamplingOptions {
  /** The system prompt. */
  system?: string | null;
}

export interface SignalOptions {
  /** Ends the call, which then fails with the signal's reason. */
  signal?: AbortSignal | null;
}

/** A message of a conversation. Other fields are handed to the chat template. */
export interface Message {
  role: string;
  content: string;
  [field: string]: unknown;
}

/** A GPU, or a CPU that takes the place of one. */
export interface Adapter {
  readonly name: string;
  /** "Vulkan", "Metal", "Dx12" or "Gl". */
  readonly backend: string;
  /** "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other". */
  readonly kind: string;
  readonly driver: string;
  /** Whether it is a CPU. */
  readonly cpu: boolean;
  /** Why it cannot be used, if it cannot. */
  readonly unfit?: string;
  /** Its name with all that tells it from others. */
  readonly shown: string;
}

/** Numbers with their shape, the last dimension innermost. */
export type Numbers = Float32Array & { readonly shape: readonly number[] };

/** Token ids. */
export type Ids = readonly number[] | Uint32Array;

/** A language model on a device. Its sessions share its steps: several answers at once cost little more than one. */
export class Model {
  private constructor();
  /** A new conversation, in a free slot. Close it: a session that is only dropped keeps its slot until it is collected. */
  chat(options?: ChatOptions): Promise<Session>;
  /**
   * Continues a text, or ids, in a free slot, which is free again when the answer has ended or is closed. It begins when the first piece
   * is asked for. Text that spells a special token is plain text.
   */
  generate(prompt: string | Ids, options?: GenerateOptions): Answer;
  /** The logits after each id, [ids, vocabulary], computed in a free slot. */
  logits(ids: Ids, options?: SignalOptions): Promise<Numbers>;
  /**
   * The ids of a text. `addSpecial`: with the tokens that the tokenizer puts around one. `parseSpecial`: text that spells a special
   * token becomes that token.
   */
  tokenize(text: string, options?: { addSpecial?: boolean | null; parseSpecial?: boolean | null }): Promise<number[]>;
  /** The text of ids. */
  detokenize(ids: Ids): Promise<string>;
  /**
   * Opens the device again after DeviceLost and loads the model anew; every session continues where it was. False: the device works.
   */
  recover(): Promise<boolean>;
  /** Frees its memory, as soon as its sessions are closed too. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
  /** Its path, or "tiny-chat (compiled in)". */
  readonly name: string;
  /** The device that it is on. */
  readonly adapter: Adapter;
  /** Bytes on the device. */
  readonly memory: number;
  /** Sessions that it can have at a time. */
  readonly slots: number;
  /** Ids that it knows. */
  readonly vocab: number;
  /** Ids that end an answer. */
  readonly eos: number[];
  /** Whether it has a chat template. */
  readonly canChat: boolean;
}

/**
 * A conversation in a slot. Its state has a fixed size, so every copy, snapshot and undo takes the same short time at any length.
 *
 * One call at a time: while an answer is unfinished, other calls than `cancel` and `close` fail with the code "Busy". After an error the
 * conversation is as before the call.
 */
export class Session {
  private constructor();
  /** Sends a message as the user; the assistant's answer begins when its first piece is asked for. */
  send(text: string, options?: AnswerOptions): Answer;
  /** Replaces the conversation by these messages and answers the last. What they share with it is not read again. */
  converse(messages: readonly Message[], options?: AnswerOptions): Answer;
  /** Feeds plain text, or ids, and generates after them. */
  complete(prompt: string | Ids, options?: AnswerOptions): Answer;
  /** Continues an answer after its token limit or a cancel: the text is the same as without the interruption. */
  resume(options?: AnswerOptions): Answer;
  /** Replaces the last answer by a new one; with the same seed by the same. */
  retry(options?: AnswerOptions): Answer;
  /** Reads ids without generating. */
  feed(ids: Ids, options?: SignalOptions): Promise<void>;
  /** Changes how tokens are chosen from the next answer on; what is not given stays. */
  setSampling(sampling: SamplingOptions): Promise<void>;
  /** Sets the system prompt; a conversation in progress is read again with it. */
  system(text: string): Promise<void>;
  /** Begins anew. */
  clear(): Promise<void>;
  /** Removes the user's last message and its answer; gives the message. */
  undo(): Promise<Message>;
  /** A copy in a free slot. The two are independent. */
  fork(): Promise<Session>;
  /** This moment, for `backTo`. */
  mark(): Promise<Mark>;
  /** Goes back to a moment of this session, or of another one of the model. */
  backTo(mark: Mark): Promise<void>;
  /**
   * The conversation with its state: what the command line saves with --save-state. Continues in another process, or on another machine.
   */
  snapshot(): Promise<Buffer>;
  /**
   * Continues from a snapshot instead. Gives what may make the text differ from that of an uninterrupted session; if there is nothing,
   * it is the same.
   */
  restore(snapshot: Uint8Array): Promise<string[]>;
  /**
   * Ends the call in progress: an answer after its current token, a prompt after its current chunk. Without a call in progress it does
   * nothing.
   */
  cancel(): void;
  /** Frees its slot; a call in progress is cancelled, and an unfinished answer frees the slot when it is closed. */
  close(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
  /** The conversation so far. */
  readonly messages: Message[];
  /** Tokens read and generated so far. */
  readonly position: number;
}

/** A moment of a session, to go back to any number of times. */
export class Mark {
  private constructor();
  readonly messages: Message[];
  readonly position: number;
}

/**
 * Text as it is generated, in whole characters: `for await (const piece of answer)`, or `await answer.text()` for all of it. When it
 * ends, is closed, or its loop is left, the session is as after the last piece that was given out.
 */
export class Answer implements AsyncIterableIterator<string> {
  private constructor();
  next(): Promise<IteratorResult<string, undefined>>;
  return(value?: undefined): Promise<IteratorReturnResult<undefined>>;
  [Symbol.asyncIterator](): this;
  /** Its whole text, from the first piece on. */
  text(): Promise<string>;
  /** Ends it after the current token, with `finish` "cancelled". */
  cancel(): void;
  /** Ends it, and gives its session free. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
  /** Why it ended; null while it goes on. */
  readonly finish: 'eos' | 'length' | 'stop' | 'cancelled' | 'failed' | null;
}

/** A picture: a path, a file URL, or the bytes of a file. */
export type Picture = string | URL | Uint8Array;

/** A Vision Mamba on a device. One call at a time; another one fails with the code "Busy". */
export class VisionModel {
  private constructor();
  /** The most probable classes, best first; 5 without `top`. */
  classify(picture: Picture, options?: ClassifyOptions): Promise<Class[]>;
  classify(pictures: readonly Picture[], options?: ClassifyOptions): Promise<Class[][]>;
  features(picture: Picture, options?: FeatureOptions): Promise<Features>;
  features(pictures: readonly Picture[], options?: FeatureOptions): Promise<Features[]>;
  /** Ends the call in progress after its batch: it fails with the code "Cancelled". */
  cancel(): void;
  /** Frees its memory. */
  close(): void;
  [Symbol.dispose](): void;
  [Symbol.asyncDispose](): Promise<void>;
  readonly name: string;
  readonly adapter: Adapter;
  /** The names of its classes. */
  readonly classes: string[];
}

export interface ClassifyOptions extends SignalOptions {
  /** Classes of a picture. */
  top?: number | null;
}

export interface FeatureOptions extends SignalOptions {
  /** Whether to give the last layer's features of each patch. */
  map?: boolean | null;
  /** Layers to give as well. */
  layers?: readonly number[] | null;
  /** Height and width that pictures are scaled to; without it, the model's. */
  image?: readonly [height: number, width: number] | null;
}

/** A class of a picture. */
export interface Class {
  index: number;
  name: string;
  logit: number;
  probability: number;
}

/** Features of a picture. */
export interface Features {
  /** [E]: the class token after the final norm. */
  classToken: Numbers;
  /** [E, height, width]: the last layer after the final norm, where it was asked for. */
  map: Numbers | null;
  /** [E, height, width] of each layer that was asked for. */
  layers: Numbers[];
}

/** What a caller can do about an error: the library's kinds of errors, and four of this package. */
export type ErrorCode =
  | 'File'
  | 'ModelNotFound'
  | 'ModelUnusable'
  | 'ModelNotOnHub'
  | 'HubFailed'
  | 'BadSetting'
  | 'BadInput'
  | 'BadPicture'
  | 'BadEvaluation'
  | 'NoDevice'
  | 'OutOfMemory'
  | 'DeviceLost'
  | 'DeviceFailed'
  | 'NoFreeSlot'
  | 'Cancelled'
  | 'NothingToUndo'
  | 'NothingToResume'
  | 'StateNotKept'
  | 'StateDamaged'
  | 'StateTooNew'
  | 'StateOfAnotherModel'
  | 'Busy'
  | 'Closed'
  | 'Panic'
  | 'NoAddon';

/** Any error of peregrine. Its message is the library's: what failed, where, and what to do. */
export class PeregrineError extends Error {
  readonly code: ErrorCode;
  /** The library's name of the error, such as "BadGguf". */
  readonly kind: string;
}
