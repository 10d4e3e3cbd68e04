// peregrine: Falcon Mamba, Mamba and their relatives on any GPU.
//
// What holds for every function:
//
// - Ownership. What a function gives out through `T **` belongs to the caller, who frees it with `peregrine_..._free`, in any order: an
//   engine may be freed before its sessions. Arguments belong to the caller; the library keeps no pointer to them after the call.
// - Texts are UTF-8. Those that the caller gives end with NUL. Those that the library gives have a size, and a NUL after it.
// - A null pointer, a text that is not UTF-8 and a number out of range are PEREGRINE_INVALID_ARGUMENT, unless NULL is said to be allowed.
//   A pointer to what was freed, or to less memory than a size says, cannot be noticed: its use is undefined, as everywhere in C.
// - A function that returns `peregrine_status` does nothing but what it says if that is PEREGRINE_OK. Otherwise `peregrine_last_error` has
//   the text: what failed, where, and what to do.
// - Threads. Every function may be called on every thread, and from callbacks. A session does one call at a time. Calls that need the
//   device wait for it.
// - Callbacks are called on the thread of the call. They must return: no longjmp, no C++ exception may leave them.
// - The functions are not for signal handlers, and not for the child of a fork().


#ifndef PEREGRINE_H
#define PEREGRINE_H

// Made from bindings/c/src; bindings/c/tests/header.rs writes it.

#include <stddef.h>
#include <stdint.h>

// Version of the interface in this header. It changes when a program that was compiled with an older header would no longer work;
// new functions, statuses and fields at the end of structs leave it.
#define PEREGRINE_ABI_VERSION 1

// How products are computed: in f32.
#define PEREGRINE_MATH_EXACT 0

// How products are computed: with activations rounded to int8 or f16, where that is faster. Answers differ.
#define PEREGRINE_MATH_FAST 1

// Outcome of a call. The numbers are stable; newer libraries may add some. `peregrine_last_error` has the text.
typedef enum peregrine_status {
  // It worked.
  PEREGRINE_OK = 0,
  // It failed for a reason that has no number of its own.
  PEREGRINE_FAILED = 1,
  // An argument or an option is invalid: a null pointer, a text that is not UTF-8, a number out of range.
  PEREGRINE_INVALID_ARGUMENT = 2,
  // Another call on this session has not ended. Nothing was done.
  PEREGRINE_BUSY = 3,
  // A bug in peregrine, which it survived. The session of the call can only be freed.
  PEREGRINE_INTERNAL = 4,
  // The model does not exist, or lacks a file.
  PEREGRINE_MODEL_NOT_FOUND = 10,
  // The model is damaged, contradicts itself, or needs something that peregrine does not support.
  PEREGRINE_MODEL_UNUSABLE = 11,
  // A file could not be read or written.
  PEREGRINE_IO = 12,
  // There is no usable GPU, or none that was asked for.
  PEREGRINE_NO_DEVICE = 20,
  // The device has not enough memory for the model.
  PEREGRINE_OUT_OF_MEMORY = 21,
  // The device was lost: call `peregrine_engine_recover`, and the sessions continue.
  PEREGRINE_DEVICE_LOST = 22,
  // The device refused an operation, did not finish in time, or computed wrongly.
  PEREGRINE_DEVICE_FAILED = 23,
  // All slots of the engine are in use: free a session, or load the engine with more slots.
  PEREGRINE_NO_FREE_SLOT = 30,
  // The call was cancelled.
  PEREGRINE_CANCELLED = 31,
  // The conversation has no message to undo.
  PEREGRINE_NOTHING_TO_UNDO = 32,
  // The last answer is complete: there is nothing to resume.
  PEREGRINE_NOTHING_TO_RESUME = 33,
  // The state of that moment was dropped, to keep within the memory for states.
  PEREGRINE_STATE_NOT_KEPT = 34,
  // The bytes are no saved state, or a damaged one.
  PEREGRINE_STATE_DAMAGED = 40,
  // The state was saved by a newer peregrine.
  PEREGRINE_STATE_TOO_NEW = 41,
  // The state belongs to another model.
  PEREGRINE_STATE_OF_ANOTHER_MODEL = 42,
} peregrine_status;

// Why an answer ended.
typedef enum peregrine_finish {
  // The model ended it, or its grammar did.
  PEREGRINE_FINISH_END = 0,
  // It has as many tokens as it may.
  PEREGRINE_FINISH_LENGTH = 1,
  // At a stop text.
  PEREGRINE_FINISH_STOP = 2,
  // `peregrine_cancel` or the callback ended it, or nothing was begun.
  PEREGRINE_FINISH_CANCELLED = 3,
  // An error ended it; the call returned its status.
  PEREGRINE_FINISH_FAILED = 4,
} peregrine_finish;

// Bytes or a text that the library gave out, and that `peregrine_bytes_free` frees. They do not change, and do not need what they came
// from: any number of threads may read them, also after the engine was freed.
typedef struct peregrine_bytes peregrine_bytes;

// Ends the calls of a session. It may be used from any thread, also while the session is busy, and after the session was freed: then
// it does nothing.
typedef struct peregrine_cancel_handle peregrine_cancel_handle;

// A model on a device, with slots for sessions. Any number of threads may use it.
typedef struct peregrine_engine peregrine_engine;

// A moment of a session, to go back to any number of times. It does not need the session, nor the engine's handle.
typedef struct peregrine_mark peregrine_mark;

// One conversation, in a slot of its engine. It does one call at a time: a second one, from another thread or from a callback of the
// first, is PEREGRINE_BUSY. After an error the conversation is as before the call, unless the function says otherwise.
typedef struct peregrine_session peregrine_session;

// An adapter. Later versions may add fields at the end.
typedef struct peregrine_adapter {
  // Its name.
  const char *name;
  // "Vulkan", "Metal", "Dx12" or "Gl".
  const char *backend;
  // "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
  const char *kind;
  // Name and version of the driver.
  const char *driver;
  // Why it cannot be used; NULL: it can.
  const char *unfit;
  // Its index, for the field `device` of `peregrine_engine_options`.
  size_t index;
  // 1 if it is a CPU, else 0.
  int cpu;
} peregrine_adapter;

// Called with each adapter in turn. Its texts are valid during the call.
typedef void (*peregrine_on_adapter)(const struct peregrine_adapter *adapter, void *user);

// How a model is loaded. Set `size` to `sizeof(peregrine_engine_options)`; 0 or NULL in any other field is its default.
typedef struct peregrine_engine_options {
  // `sizeof(peregrine_engine_options)`.
  size_t size;
  // The device: an index in the order of `peregrine_adapters`, or a part of its name. Default: the environment variable
  // PEREGRINE_ADAPTER, else the first adapter.
  const char *device;
  // The format that matrices get while they are loaded, such as "q4_K". Default: as stored.
  const char *weights;
  // A folder, made if it is missing, in which compiled kernels are kept for the next start; if that fails, the next start is slower.
  // Only the user may be able to write to it. Default: none.
  const char *cache;
  // How many sessions there can be at a time. Default: 1.
  size_t slots;
  // Most tokens of a prompt that are read in one step. Default: what suits the device.
  size_t chunk;
  // Most bytes of device memory that the model may take. Default: what is free.
  uint64_t memory;
  // `PEREGRINE_MATH_EXACT` or `PEREGRINE_MATH_FAST`.
  uint32_t math;
  // 1: the table of embeddings stays on the host, which saves device memory and costs speed.
  uint32_t host_embeddings;
} peregrine_engine_options;

// Called as a model is loaded: `done` of `total` bytes are on the device.
typedef void (*peregrine_on_progress)(uint64_t done, uint64_t total, void *user);

// A number added to the logit of a token.
typedef struct peregrine_bias {
  // The id of the token.
  uint32_t token;
  // The number.
  float bias;
} peregrine_bias;

// How the next token is chosen. Set `size` to `sizeof(peregrine_sampling)`; 0 in any other field is its default. All defaults together
// always choose the most probable token.
typedef struct peregrine_sampling {
  // `sizeof(peregrine_sampling)`.
  size_t size;
  // Seed of the draws: each depends on the seed and the position alone.
  uint64_t seed;
  // Divides the logits. Default: 0, the most probable token.
  float temperature;
  // Keeps the most probable tokens until their sum reaches this. Default: 1, all.
  float top_p;
  // Keeps tokens at least this fraction as probable as the best. Default: 0, all.
  float min_p;
  // Divides the positive logits of recent tokens and multiplies the negative ones. Default: 1, which does nothing.
  float repeat_penalty;
  // Subtracted from the logit of each recent token. Default: 0.
  float presence_penalty;
  // Subtracted from the logit of a recent token once for each occurrence. Default: 0.
  float frequency_penalty;
  // Keeps this many of the most probable tokens. Default: 0, all.
  uint32_t top_k;
  // How many of the last tokens penalties look at: at most 4096. Default: 64.
  uint32_t repeat_last_n;
  // Added to the logits of tokens; -INFINITY bans one.
  const struct peregrine_bias *biases;
  // How many `biases` there are.
  size_t bias_count;
} peregrine_sampling;

// Called with each message of a conversation: its role, such as "user", and its text. Both end with NUL too, and are valid during the
// call.
typedef void (*peregrine_on_message)(const char *role, size_t role_size, const char *text, size_t text_size, void *user);

// Length, end and form of an answer. Set `size` to `sizeof(peregrine_answer_options)`; 0 or NULL in any other field is its default.
typedef struct peregrine_answer_options {
  // `sizeof(peregrine_answer_options)`.
  size_t size;
  // Most tokens. Default: until the model ends its answer.
  size_t max_tokens;
  // Texts that end the answer and are not part of it.
  const char *const *stops;
  // How many `stops` there are.
  size_t stop_count;
  // A JSON schema that the whole answer must satisfy. Of the three forms at most one may be given. Default: none.
  const char *json_schema;
  // A regular expression that the whole answer must match. Default: none.
  const char *regex;
  // A grammar that the whole answer must follow, in llguidance's form of Lark. Default: none.
  const char *grammar;
} peregrine_answer_options;

// Called with each piece of an answer: `size` bytes of whole characters in UTF-8, and a NUL after them. They are valid during the call.
// Return 0 to go on, anything else to end the answer.
typedef int (*peregrine_on_text)(const char *text, size_t size, void *user);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Version of the interface of the library that was loaded. A program may go on if it equals `PEREGRINE_ABI_VERSION`.
uint32_t peregrine_abi_version(void);

// Version of the library, such as "0.1.0". The text is valid for as long as the library is loaded.
const char *peregrine_version(void);

// The text of the last call that failed on this thread; "" if none did. It says what failed, where, and what to do.
//
// The text belongs to the library. It is valid until a call fails on this thread, or the thread ends. A call that works leaves it.
const char *peregrine_last_error(void);

// The first byte, valid until they are freed. NULL for NULL.
const uint8_t *peregrine_bytes_data(const struct peregrine_bytes *bytes);

// The same as a text of C: a NUL, which is not counted, follows the last byte. A text may have other NULs before it.
const char *peregrine_bytes_text(const struct peregrine_bytes *bytes);

// How many there are. 0 for NULL.
size_t peregrine_bytes_size(const struct peregrine_bytes *bytes);

// Frees them. NULL is allowed.
void peregrine_bytes_free(struct peregrine_bytes *bytes);

// Lists the adapters: usable ones first, then GPUs before CPUs. That there are none is no error.
//
// - `on_adapter`: called on this thread, with `user`.
enum peregrine_status peregrine_adapters(peregrine_on_adapter on_adapter, void *user);

// Loads a model.
//
// - `path`: a GGUF file, or a folder as Hugging Face has it, in UTF-8.
// - `options`: NULL for the defaults.
// - `on_progress`: called on this thread, with `user`; may be NULL.
// - `engine`: receives the engine, to be freed by `peregrine_engine_free`; NULL after an error.
enum peregrine_status peregrine_engine_load(const char *path,
                                            const struct peregrine_engine_options *options,
                                            peregrine_on_progress on_progress,
                                            void *user,
                                            struct peregrine_engine **engine);

// Frees the engine. Its sessions go on; the model leaves the device when the last of them is freed. NULL is allowed.
void peregrine_engine_free(struct peregrine_engine *engine);

// Opens the device again after PEREGRINE_DEVICE_LOST, or the best one left, and loads the model anew. Sessions continue where they
// were; `peregrine_session_resume` continues an answer that ended with the error.
//
// - `on_progress`: called on this thread, with `user`; may be NULL.
// - `reopened`: receives 1, or 0 if the device works and nothing was done; may be NULL.
enum peregrine_status peregrine_engine_recover(struct peregrine_engine *engine,
                                               peregrine_on_progress on_progress,
                                               void *user,
                                               int *reopened);

// Gives the number of logits: token ids are below it.
enum peregrine_status peregrine_engine_vocabulary(const struct peregrine_engine *engine, size_t *vocabulary);

// Gives the bytes of device memory that the engine and its sessions have allocated.
enum peregrine_status peregrine_engine_memory(const struct peregrine_engine *engine, uint64_t *bytes);

// Gives the sampling parameters that the model comes with; those that it lacks are llama.cpp's.
//
// - `sampling`: its `size` must be set; receives the others.
enum peregrine_status peregrine_engine_sampling(const struct peregrine_engine *engine,
                                                uint64_t seed,
                                                struct peregrine_sampling *sampling);

// Gives the token ids of a plain text, with the tokens that the tokenizer adds before and after a text.
//
// - `text`: UTF-8.
// - `specials`: 1 reads spellings of special tokens as those tokens, 0 as text.
// - `ids`: room for `capacity` ids; NULL to learn the count.
// - `count`: receives the number of ids, also if there is too little room.
enum peregrine_status peregrine_engine_tokenize(const struct peregrine_engine *engine,
                                                const char *text,
                                                int specials,
                                                uint32_t *ids,
                                                size_t capacity,
                                                size_t *count);

// Gives the text of token ids, with special tokens; incomplete characters become U+FFFD.
//
// - `ids`: `count` ids.
// - `text`: receives UTF-8, to be freed by `peregrine_bytes_free`; NULL after an error.
enum peregrine_status peregrine_engine_decode(const struct peregrine_engine *engine,
                                              const uint32_t *ids,
                                              size_t count,
                                              struct peregrine_bytes **text);

// Begins a conversation in a free slot; PEREGRINE_NO_FREE_SLOT if there is none.
//
// - `sampling`: how tokens are chosen; NULL: always the most probable.
// - `session`: receives the session, to be freed by `peregrine_session_free`; NULL after an error.
enum peregrine_status peregrine_session_new(struct peregrine_engine *engine,
                                            const struct peregrine_sampling *sampling,
                                            struct peregrine_session **session);

// Frees the session and its slot. If a call of another thread is in progress, it is cancelled, and the slot is free when it has ended.
// NULL is allowed.
void peregrine_session_free(struct peregrine_session *session);

// Begins a conversation that goes on from here by itself, in another slot.
//
// - `other`: receives the new session, to be freed by `peregrine_session_free`; NULL after an error.
enum peregrine_status peregrine_session_fork(struct peregrine_session *session, struct peregrine_session **other);

// Changes how tokens are chosen from the next answer on.
//
// - `sampling`: NULL: always the most probable.
enum peregrine_status peregrine_session_set_sampling(struct peregrine_session *session, const struct peregrine_sampling *sampling);

// Sets the system prompt; a conversation in progress is read again with it.
enum peregrine_status peregrine_session_system(struct peregrine_session *session, const char *text);

// Clears the conversation.
enum peregrine_status peregrine_session_clear(struct peregrine_session *session);

// Removes the user's last message and its answer, without reading anything.
//
// - `message`: receives the message, to be freed by `peregrine_bytes_free`; NULL after an error. May be NULL.
enum peregrine_status peregrine_session_undo(struct peregrine_session *session, struct peregrine_bytes **message);

// Gives the number of tokens consumed so far.
enum peregrine_status peregrine_session_position(struct peregrine_session *session, uint64_t *position);

// Lists the messages of the conversation so far, oldest first.
//
// - `on_message`: called on this thread, with `user`, before the function returns.
enum peregrine_status peregrine_session_messages(struct peregrine_session *session, peregrine_on_message on_message, void *user);

// Reads token ids without generating. A cancel ends it with PEREGRINE_CANCELLED; what was read until then stays read.
//
// - `ids`: `count` ids.
enum peregrine_status peregrine_session_feed(struct peregrine_session *session, const uint32_t *ids, size_t count);

// Gives the logits after the last token consumed: of every token of the vocabulary, before penalties and biases.
//
// - `logits`: room for `count` values, as many as `peregrine_engine_vocabulary` says.
enum peregrine_status peregrine_session_logits(struct peregrine_session *session, float *logits, size_t count);

// Sends a message as the user and gives the answer to `on_text`, piece by piece.
//
// - `text`: UTF-8.
// - `options`: NULL for the defaults.
// - `on_text`: called on this thread, with `user`; NULL: nobody listens. It may use other sessions; this one is busy.
// - `finish`: receives why the answer ended; may be NULL.
//
// After an error, or a cancel before the answer began, the conversation is as before. If the error or the cancel comes later, the text
// given out stays part of the conversation, and `peregrine_session_resume` continues it.
enum peregrine_status peregrine_session_send(struct peregrine_session *session,
                                             const char *text,
                                             const struct peregrine_answer_options *options,
                                             peregrine_on_text on_text,
                                             void *user,
                                             enum peregrine_finish *finish);

// Reads token ids as they are and generates after them. Nothing of a chat is added.
//
// - `ids`: `count` ids; with none, it generates after what was read before.
// - the others: see `peregrine_session_send`.
enum peregrine_status peregrine_session_generate(struct peregrine_session *session,
                                                 const uint32_t *ids,
                                                 size_t count,
                                                 const struct peregrine_answer_options *options,
                                                 peregrine_on_text on_text,
                                                 void *user,
                                                 enum peregrine_finish *finish);

// Continues the last answer after its token limit, a cancel or an error, without reading anything: the tokens are the same as without
// the interruption.
//
// - all arguments: see `peregrine_session_send`.
enum peregrine_status peregrine_session_resume(struct peregrine_session *session,
                                               const struct peregrine_answer_options *options,
                                               peregrine_on_text on_text,
                                               void *user,
                                               enum peregrine_finish *finish);

// Replaces the last answer by a new one. With the same seed it is the same.
//
// - all arguments: see `peregrine_session_send`.
enum peregrine_status peregrine_session_retry(struct peregrine_session *session,
                                              const struct peregrine_answer_options *options,
                                              peregrine_on_text on_text,
                                              void *user,
                                              enum peregrine_finish *finish);

// Gives the conversation with its state as bytes: those of a file that `peregrine --save-state` writes. Another session of the same
// model continues from them, in this process or another.
//
// - `snapshot`: receives the bytes, to be freed by `peregrine_bytes_free`; NULL after an error.
enum peregrine_status peregrine_session_snapshot(struct peregrine_session *session, struct peregrine_bytes **snapshot);

// Continues from a snapshot, which replaces the session's conversation and sampling parameters. On the same device, with the same
// weights, the tokens are those of an uninterrupted session.
//
// - `snapshot`: `size` bytes.
// - `warnings`: receives a text with a line for each reason why the tokens may differ, to be freed by `peregrine_bytes_free`; NULL if
//   there is none, and after an error. May be NULL.
enum peregrine_status peregrine_session_restore(struct peregrine_session *session,
                                                const uint8_t *snapshot,
                                                size_t size,
                                                struct peregrine_bytes **warnings);

// Marks the current moment.
//
// - `mark`: receives the mark, to be freed by `peregrine_mark_free`; NULL after an error.
enum peregrine_status peregrine_session_mark(struct peregrine_session *session, struct peregrine_mark **mark);

// Goes back to a moment of this session, or of another one of the same engine. The sampling parameters stay.
enum peregrine_status peregrine_session_back_to(struct peregrine_session *session, const struct peregrine_mark *mark);

// Frees the mark. NULL is allowed.
void peregrine_mark_free(struct peregrine_mark *mark);

// Gives a handle that ends the calls of this session. It works while the session is busy.
//
// - `cancel`: receives the handle, to be freed by `peregrine_cancel_free`; NULL after an error.
enum peregrine_status peregrine_session_cancel_handle(struct peregrine_session *session, struct peregrine_cancel_handle **cancel);

// Ends the call in progress: an answer after its current token, with PEREGRINE_FINISH_CANCELLED; the reading of a prompt after its
// current chunk. Without a call in progress it does nothing, and a cancel that comes too late does not end the next call. NULL is
// allowed.
//
// It returns at once. It takes a lock, so a signal handler must not call it: let a thread wait for the signal.
void peregrine_cancel(struct peregrine_cancel_handle *cancel);

// Frees the handle. The session stays. NULL is allowed.
void peregrine_cancel_free(struct peregrine_cancel_handle *cancel);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PEREGRINE_H */
