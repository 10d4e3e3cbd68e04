// Every function refuses what it can notice, with a status and a text, and frees NULL.
// arguments MODEL

#include "check.h"

#define IS_NULL(call, name) FAILS(call, PEREGRINE_INVALID_ARGUMENT, name " is NULL")

static void nothing_is_null(void) {
  peregrine_engine *engine = (peregrine_engine *)8;
  peregrine_session *session = (peregrine_session *)8;
  peregrine_bytes *bytes = (peregrine_bytes *)8;
  peregrine_mark *mark = (peregrine_mark *)8;
  peregrine_cancel_handle *cancel = (peregrine_cancel_handle *)8;
  size_t size;
  uint64_t number;
  peregrine_finish finish = PEREGRINE_FINISH_END;

  CHECK(strcmp(peregrine_last_error(), "") == 0);
  IS_NULL(peregrine_engine_load(NULL, NULL, NULL, NULL, &engine), "path");
  CHECK(engine == NULL);
  IS_NULL(peregrine_engine_load("x", NULL, NULL, NULL, NULL), "engine");
  IS_NULL(peregrine_engine_recover(NULL, NULL, NULL, NULL), "engine");
  IS_NULL(peregrine_engine_vocabulary(NULL, &size), "engine");
  IS_NULL(peregrine_engine_memory(NULL, &number), "engine");
  IS_NULL(peregrine_engine_sampling(NULL, 0, NULL), "engine");
  IS_NULL(peregrine_engine_tokenize(NULL, "x", 0, NULL, 0, &size), "engine");
  IS_NULL(peregrine_engine_decode(NULL, NULL, 0, &bytes), "engine");
  CHECK(bytes == NULL);
  IS_NULL(peregrine_session_new(NULL, NULL, &session), "engine");
  CHECK(session == NULL);
  IS_NULL(peregrine_session_fork(NULL, &session), "session");
  IS_NULL(peregrine_session_set_sampling(NULL, NULL), "session");
  IS_NULL(peregrine_session_system(NULL, "x"), "session");
  IS_NULL(peregrine_session_clear(NULL), "session");
  IS_NULL(peregrine_session_undo(NULL, NULL), "session");
  IS_NULL(peregrine_session_position(NULL, &number), "session");
  IS_NULL(peregrine_session_messages(NULL, NULL, NULL), "session");
  IS_NULL(peregrine_session_feed(NULL, NULL, 0), "session");
  IS_NULL(peregrine_session_logits(NULL, NULL, 0), "session");
  IS_NULL(peregrine_session_send(NULL, "x", NULL, NULL, NULL, &finish), "session");
  CHECK(finish == PEREGRINE_FINISH_FAILED);
  IS_NULL(peregrine_session_generate(NULL, NULL, 0, NULL, NULL, NULL, NULL), "session");
  IS_NULL(peregrine_session_resume(NULL, NULL, NULL, NULL, NULL), "session");
  IS_NULL(peregrine_session_retry(NULL, NULL, NULL, NULL, NULL), "session");
  IS_NULL(peregrine_session_snapshot(NULL, &bytes), "session");
  IS_NULL(peregrine_session_restore(NULL, NULL, 0, NULL), "session");
  IS_NULL(peregrine_session_mark(NULL, &mark), "session");
  CHECK(mark == NULL);
  IS_NULL(peregrine_session_back_to(NULL, NULL), "session");
  IS_NULL(peregrine_session_cancel_handle(NULL, &cancel), "session");
  CHECK(cancel == NULL);
  IS_NULL(peregrine_adapters(NULL, NULL), "on_adapter");
  FAILS(peregrine_engine_memory((peregrine_engine *)1, &number), PEREGRINE_INVALID_ARGUMENT, "misaligned");

  CHECK(peregrine_bytes_data(NULL) == NULL && peregrine_bytes_text(NULL) == NULL && peregrine_bytes_size(NULL) == 0);
  peregrine_cancel(NULL);
  peregrine_cancel_free(NULL);
  peregrine_bytes_free(NULL);
  peregrine_mark_free(NULL);
  peregrine_session_free(NULL);
  peregrine_engine_free(NULL);
}

static void options_are_checked(const char *model) {
  peregrine_engine *engine;
  peregrine_engine_options options;
  struct {
    peregrine_engine_options known;
    uint64_t unknown;
  } newer;
  memset(&options, 0, sizeof options);
#define LOAD peregrine_engine_load(model, &options, NULL, NULL, &engine)
  FAILS(LOAD, PEREGRINE_INVALID_ARGUMENT, "is 0: set it to sizeof(peregrine_engine_options)");
  options.size = sizeof options;
  options.math = 2;
  FAILS(LOAD, PEREGRINE_INVALID_ARGUMENT, "math is 2");
  options.math = PEREGRINE_MATH_EXACT;
  options.host_embeddings = 7;
  FAILS(LOAD, PEREGRINE_INVALID_ARGUMENT, "host_embeddings is 7");
  options.host_embeddings = 0;
  options.weights = "q3_X";
  FAILS(LOAD, PEREGRINE_INVALID_ARGUMENT, "there are f32, f16");
  options.weights = "\xff";
  FAILS(LOAD, PEREGRINE_INVALID_ARGUMENT, "weights is not UTF-8 text: invalid byte at offset 0");
  options.weights = NULL;
  options.slots = 1u << 20;
  FAILS(LOAD, PEREGRINE_INVALID_ARGUMENT, "slots is 1048576: it must be from 1 to 8192");
  options.slots = 0;
  options.memory = 1;
  FAILS(LOAD, PEREGRINE_OUT_OF_MEMORY, "the model needs");
  options.memory = 0;
  options.device = "no such device";
  FAILS(LOAD, PEREGRINE_NO_DEVICE, "no device \"no such device\"");
  options.device = NULL;
  memset(&newer, 0, sizeof newer);
  newer.known = options;
  newer.known.size = sizeof newer;
  newer.unknown = 1;
  FAILS(peregrine_engine_load(model, &newer.known, NULL, NULL, &engine), PEREGRINE_INVALID_ARGUMENT, "does not know");
  newer.unknown = 0;
  OK(peregrine_engine_load(model, &newer.known, NULL, NULL, &engine));
  peregrine_engine_free(engine);
}

static void values_are_checked(peregrine_engine *engine) {
  peregrine_session *session, *second = (peregrine_session *)8;
  peregrine_sampling sampling;
  peregrine_answer_options options = tokens(4);
  peregrine_bias bias = {4000000000u, 1};
  peregrine_bytes *snapshot;
  const char *stops[] = {NULL};
  static heard answer;
  const uint32_t ids[] = {5, 4000000000u};
  float logit;
  size_t count = 0;

  memset(&sampling, 0, sizeof sampling);
  FAILS(peregrine_session_new(engine, &sampling, &session), PEREGRINE_INVALID_ARGUMENT, "sizeof(peregrine_sampling)");
  FAILS(peregrine_engine_sampling(engine, 1, &sampling), PEREGRINE_INVALID_ARGUMENT, "sizeof(peregrine_sampling)");
  FAILS(peregrine_engine_sampling(engine, 1, NULL), PEREGRINE_INVALID_ARGUMENT, "peregrine_sampling is NULL");
  sampling.size = sizeof sampling;
  sampling.temperature = -1;
  FAILS(peregrine_session_new(engine, &sampling, &session), PEREGRINE_INVALID_ARGUMENT, "temperature is -1");
  sampling.temperature = 0;
  sampling.bias_count = 1;
  FAILS(peregrine_session_new(engine, &sampling, &session), PEREGRINE_INVALID_ARGUMENT, "biases is NULL");
  sampling.biases = &bias;
  FAILS(peregrine_session_new(engine, &sampling, &session), PEREGRINE_INVALID_ARGUMENT, "no such token id");
  sampling.bias_count = (size_t)-1 / 2;
  FAILS(peregrine_session_new(engine, &sampling, &session), PEREGRINE_INVALID_ARGUMENT, "biases cannot have");

  // The refused ones took no slot: the engine has one.
  OK(peregrine_session_new(engine, NULL, &session));
  FAILS(peregrine_session_new(engine, NULL, &second), PEREGRINE_NO_FREE_SLOT, "all 1 slots are in use");
  CHECK(second == NULL);

#define SEND peregrine_session_send(session, "Hello!", &options, NULL, NULL, NULL)
  IS_NULL(peregrine_session_send(session, NULL, NULL, NULL, NULL, NULL), "text");
  FAILS(peregrine_session_send(session, "ab\xc3(", NULL, NULL, NULL, NULL), PEREGRINE_INVALID_ARGUMENT,
        "text is not UTF-8 text: invalid byte at offset 2");
  options.size = 3;
  FAILS(SEND, PEREGRINE_INVALID_ARGUMENT, "is 3: set it to sizeof(peregrine_answer_options)");
  options = tokens(4);
  options.stop_count = 1;
  FAILS(SEND, PEREGRINE_INVALID_ARGUMENT, "stops is NULL");
  options.stops = stops;
  FAILS(SEND, PEREGRINE_INVALID_ARGUMENT, "a stop text is NULL");
  options.stop_count = 0;
  options.json_schema = "{";
  FAILS(SEND, PEREGRINE_INVALID_ARGUMENT, "json_schema is not JSON");
  options.regex = "a";
  FAILS(SEND, PEREGRINE_INVALID_ARGUMENT, "exclude each other");
  options.json_schema = NULL;
  options.regex = "(";
  FAILS(SEND, PEREGRINE_INVALID_ARGUMENT, "the regular expression");

  FAILS(peregrine_session_feed(session, ids, 2), PEREGRINE_INVALID_ARGUMENT, "token id 4000000000 at position 1");
  FAILS(peregrine_session_generate(session, ids, 2, NULL, NULL, NULL, NULL), PEREGRINE_INVALID_ARGUMENT, "token id");
  IS_NULL(peregrine_session_feed(session, NULL, 1), "ids");
  FAILS(peregrine_session_logits(session, &logit, 1), PEREGRINE_INVALID_ARGUMENT, "no tokens");
  CHECK(position(session) == 0);
  OK(peregrine_session_feed(session, ids, 1));
  FAILS(peregrine_session_logits(session, &logit, 1), PEREGRINE_INVALID_ARGUMENT, "logits has room for 1 values");
  FAILS(peregrine_engine_tokenize(engine, "a story about a fox", 0, (uint32_t *)&logit, 1, &count),
        PEREGRINE_INVALID_ARGUMENT, "ids has room for 1 values");
  CHECK(count > 1);

  FAILS(peregrine_session_undo(session, NULL), PEREGRINE_NOTHING_TO_UNDO, "nothing to undo");
  OK(peregrine_session_clear(session));
  say(session, "Hello!", 0, &answer);
  FAILS(peregrine_session_resume(session, NULL, NULL, NULL, NULL), PEREGRINE_NOTHING_TO_RESUME, "nothing to continue");

  FAILS(peregrine_session_restore(session, (const uint8_t *)"hello", 5, NULL), PEREGRINE_STATE_DAMAGED, "the snapshot");
  OK(peregrine_session_snapshot(session, &snapshot));
  FAILS(peregrine_session_restore(session, peregrine_bytes_data(snapshot), peregrine_bytes_size(snapshot) - 1, NULL),
        PEREGRINE_STATE_DAMAGED, "the snapshot");
  OK(peregrine_session_restore(session, peregrine_bytes_data(snapshot), peregrine_bytes_size(snapshot), NULL));
  peregrine_bytes_free(snapshot);
  peregrine_session_free(session);
}

int main(int argc, char **argv) {
  peregrine_engine *engine;
  CHECK(argc == 2);
  CHECK(peregrine_abi_version() == PEREGRINE_ABI_VERSION);
  nothing_is_null();
  options_are_checked(argv[1]);
  engine = load_slots(argv[1], 0);
  values_are_checked(engine);
  peregrine_engine_free(engine);
  printf("peregrine %s\n", peregrine_version());
  return 0;
}
