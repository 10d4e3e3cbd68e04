// A conversation: progress, streaming, undo, retry, resume, fork, marks, messages, sampling, constraints, tokens, adapters.
// conversation MODEL CACHE-FOLDER

#include "check.h"

static void progress(uint64_t done, uint64_t total, void *user) {
  uint64_t *last = (uint64_t *)user;
  CHECK(done >= last[0] && done <= total);
  last[0] = done;
  last[1] = total;
}

static void adapter(const peregrine_adapter *adapter, void *user) {
  size_t *seen = (size_t *)user;
  CHECK(adapter->index == (*seen)++);
  CHECK(strlen(adapter->name) > 0 && strlen(adapter->backend) > 0 && strlen(adapter->kind) > 0);
}

static void message(const char *role, size_t role_size, const char *text, size_t text_size, void *user) {
  heard *to = (heard *)user;
  CHECK(strlen(role) == role_size && strlen(text) == text_size);
  CHECK(to->size + role_size + text_size + 2 < sizeof to->text);
  to->size += (size_t)sprintf(to->text + to->size, "%s:%s\n", role, text);
}

static void messages(peregrine_session *session, heard *list) {
  forget(list);
  OK(peregrine_session_messages(session, message, list));
}

int main(int argc, char **argv) {
  static heard first, second, list;
  peregrine_engine *engine;
  peregrine_session *session, *other;
  peregrine_mark *mark;
  peregrine_bytes *text, *gone;
  peregrine_engine_options options;
  peregrine_answer_options answer = tokens(12);
  peregrine_sampling sampling;
  peregrine_finish finish;
  uint64_t loaded[2] = {0, 0}, at, bytes;
  uint32_t ids[64];
  size_t count, vocabulary, adapters = 0;
  const char *stops[] = {"4 is"};
  CHECK(argc == 3);

  OK(peregrine_adapters(adapter, &adapters));
  CHECK(adapters > 0);
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.slots = 2;
  options.cache = argv[2];
  OK(peregrine_engine_load(argv[1], &options, progress, loaded, &engine));
  CHECK(loaded[0] > 1000000 && loaded[0] == loaded[1]);
  OK(peregrine_engine_memory(engine, &bytes));
  CHECK(bytes > 1000000);

  // A stream, in more than one piece.
  session = begin(engine);
  OK(peregrine_session_send(session, "What is 3 plus 4?", NULL, hear, &first, &finish));
  CHECK(strcmp(first.text, "3 plus 4 is 7.") == 0 && first.pieces > 1 && finish == PEREGRINE_FINISH_END);
  at = position(session);
  messages(session, &list);
  CHECK(strcmp(list.text, "user:What is 3 plus 4?\nassistant:3 plus 4 is 7.\n") == 0);

  // Undo gives the message back; the same question has the same answer.
  OK(peregrine_session_undo(session, &gone));
  CHECK(strcmp(peregrine_bytes_text(gone), "What is 3 plus 4?") == 0 && peregrine_bytes_size(gone) == 17);
  peregrine_bytes_free(gone);
  messages(session, &list);
  CHECK(list.size == 0);
  say(session, "What is 3 plus 4?", 0, &second);
  CHECK(strcmp(first.text, second.text) == 0 && position(session) == at);
  forget(&second);
  OK(peregrine_session_retry(session, NULL, hear, &second, &finish));
  CHECK(strcmp(first.text, second.text) == 0 && position(session) == at);

  // A limit, then the rest: together they are the whole answer.
  OK(peregrine_session_mark(session, &mark));
  say(session, "Tell me a story about a fox.", 40, &first);
  OK(peregrine_session_back_to(session, mark));
  CHECK(position(session) == at);
  forget(&second);
  OK(peregrine_session_send(session, "Tell me a story about a fox.", &answer, hear, &second, &finish));
  CHECK(finish == PEREGRINE_FINISH_LENGTH && second.size < first.size);
  answer = tokens(28);
  OK(peregrine_session_resume(session, &answer, hear, &second, &finish));
  CHECK(finish == PEREGRINE_FINISH_LENGTH && strcmp(first.text, second.text) == 0);

  // Forks are independent, and a mark works in another session of the engine.
  OK(peregrine_session_fork(session, &other));
  CHECK(position(other) == position(session));
  say(other, "Hello!", 5, &second);
  CHECK(position(other) > position(session));
  OK(peregrine_session_back_to(other, mark));
  CHECK(position(other) == at);
  peregrine_session_free(session);
  peregrine_mark_free(mark);

  // Stop texts, constraints, a system prompt, sampling.
  forget(&first);
  OK(peregrine_session_clear(other));
  answer = tokens(0);
  answer.stops = stops;
  answer.stop_count = 1;
  OK(peregrine_session_send(other, "What is 3 plus 4?", &answer, hear, &first, &finish));
  CHECK(strcmp(first.text, "3 plus ") == 0 && finish == PEREGRINE_FINISH_STOP);
  answer = tokens(0);
  answer.regex = "(yes|no), [0-9]{3}";
  forget(&first);
  OK(peregrine_session_send(other, "What is 3 plus 4?", &answer, hear, &first, &finish));
  CHECK((strncmp(first.text, "yes, ", 5) == 0 && first.size == 8) || (strncmp(first.text, "no, ", 4) == 0 && first.size == 7));
  answer = tokens(0);
  answer.json_schema = "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"boolean\"}}, \"required\": [\"a\"],"
                       " \"additionalProperties\": false}";
  forget(&first);
  OK(peregrine_session_send(other, "What is 3 plus 4?", &answer, hear, &first, &finish));
  CHECK(first.text[0] == '{' && strstr(first.text, "\"a\"") != NULL && first.text[first.size - 1] == '}');
  OK(peregrine_session_system(other, "Answer in one word."));
  messages(other, &list);
  CHECK(strncmp(list.text, "system:Answer in one word.\n", 27) == 0);

  memset(&sampling, 0, sizeof sampling);
  sampling.size = sizeof sampling;
  OK(peregrine_engine_sampling(engine, 7, &sampling));
  CHECK(sampling.size == sizeof sampling && sampling.seed == 7 && sampling.temperature > 0 && sampling.repeat_last_n == 64);
  sampling.temperature = 1.5;
  sampling.top_k = 0;
  sampling.top_p = 1;
  sampling.min_p = 0;
  OK(peregrine_session_clear(other));
  OK(peregrine_session_set_sampling(other, &sampling));
  say(other, "Tell me a story about a fox.", 20, &first);
  OK(peregrine_session_clear(other));
  say(other, "Tell me a story about a fox.", 20, &second);
  CHECK(strcmp(first.text, second.text) == 0);
  sampling.seed = 8;
  OK(peregrine_session_clear(other));
  OK(peregrine_session_set_sampling(other, &sampling));
  say(other, "Tell me a story about a fox.", 20, &second);
  CHECK(strcmp(first.text, second.text) != 0);

  // A text becomes ids, and they become the text.
  OK(peregrine_engine_vocabulary(engine, &vocabulary));
  OK(peregrine_engine_tokenize(engine, "Once upon a time", 0, NULL, 0, &count));
  CHECK(count > 1 && count < 64);
  OK(peregrine_engine_tokenize(engine, "Once upon a time", 0, ids, 64, &count));
  CHECK(ids[0] < vocabulary);
  OK(peregrine_engine_decode(engine, ids, count, &text));
  CHECK(strstr(peregrine_bytes_text(text), "Once upon a time") != NULL);

  // What it gave out outlives the engine; the session outlives the engine's handle.
  peregrine_engine_free(engine);
  OK(peregrine_session_clear(other));
  answer = tokens(5);
  OK(peregrine_session_generate(other, ids, count, &answer, hear, &first, &finish));
  CHECK(position(other) == count + 5 && finish == PEREGRINE_FINISH_LENGTH);
  peregrine_session_free(other);
  CHECK(strlen(peregrine_bytes_text(text)) == peregrine_bytes_size(text));
  peregrine_bytes_free(text);
  return 0;
}
