// Cancels and busy sessions.
// cancel MODEL

#include "check.h"

#define STORY "Tell me a story about a fox."

// What a callback does in the middle of an answer.
typedef struct {
  peregrine_engine *engine;
  peregrine_session *session;
  peregrine_cancel_handle *cancel;
  pthread_t thread;
  heard part;
} middle;

// Runs beside an answer whose callback waits for it.
static void *beside(void *user) {
  middle *at = (middle *)user;
  peregrine_session *other;
  static heard answer;
  FAILS(peregrine_session_undo(at->session, NULL), PEREGRINE_BUSY, "another call on this session has not ended");
  FAILS(peregrine_session_send(at->session, "Hello!", NULL, NULL, NULL, NULL), PEREGRINE_BUSY, "another call");
  other = begin(at->engine);
  say(other, "What is 3 plus 4?", 0, &answer);
  CHECK(strcmp(answer.text, "3 plus 4 is 7.") == 0);
  peregrine_session_free(other);
  peregrine_cancel(at->cancel);
  peregrine_cancel(at->cancel);
  return NULL;
}

static int in_the_middle(const char *text, size_t size, void *user) {
  middle *at = (middle *)user;
  peregrine_bytes *bytes;
  uint64_t number;
  if (hear(text, size, &at->part) == 0 && at->part.pieces == 3) {
    // From the callback itself.
    CHECK(peregrine_session_position(at->session, &number) == PEREGRINE_BUSY);
    CHECK(peregrine_session_snapshot(at->session, &bytes) == PEREGRINE_BUSY && bytes == NULL);
    // And from another thread, which cancels.
    CHECK(pthread_create(&at->thread, NULL, beside, at) == 0);
    CHECK(pthread_join(at->thread, NULL) == 0);
  }
  return 0;
}

static int free_it(const char *text, size_t size, void *user) {
  middle *at = (middle *)user;
  hear(text, size, &at->part);
  if (at->session != NULL) peregrine_session_free(at->session);
  at->session = NULL;
  return 0;
}

// Cancels again and again until it is told to end.
static volatile int ended;
static void *again_and_again(void *cancel) {
  while (!ended) peregrine_cancel((peregrine_cancel_handle *)cancel);
  return NULL;
}

int main(int argc, char **argv) {
  static heard whole, part;
  static middle at;
  peregrine_answer_options some = tokens(30);
  peregrine_finish finish;
  CHECK(argc == 2);
  at.engine = load_slots(argv[1], 2);
  at.session = begin(at.engine);
  OK(peregrine_session_cancel_handle(at.session, &at.cancel));
  say(at.session, STORY, 60, &whole);
  OK(peregrine_session_undo(at.session, NULL));

  // From another thread, in the middle; twice.
  OK(peregrine_session_send(at.session, STORY, NULL, in_the_middle, &at, &finish));
  CHECK(finish == PEREGRINE_FINISH_CANCELLED && at.part.pieces == 3);
  // The session goes on where it was.
  OK(peregrine_session_resume(at.session, &some, hear, &at.part, &finish));
  CHECK(at.part.pieces > 10 && strncmp(whole.text, at.part.text, at.part.size) == 0);

  // A cancel between two calls ends neither.
  OK(peregrine_session_undo(at.session, NULL));
  peregrine_cancel(at.cancel);
  say(at.session, STORY, 60, &part);
  CHECK(strcmp(whole.text, part.text) == 0);

  // The callback ends it: the text so far is the answer.
  OK(peregrine_session_undo(at.session, NULL));
  forget(&part);
  part.most = 2;
  OK(peregrine_session_send(at.session, STORY, NULL, hear, &part, &finish));
  CHECK(finish == PEREGRINE_FINISH_CANCELLED && part.pieces == 2 && strncmp(whole.text, part.text, part.size) == 0);
  part.most = 0;
  OK(peregrine_session_resume(at.session, &some, hear, &part, &finish));
  CHECK(part.pieces > 10 && strncmp(whole.text, part.text, part.size) == 0);

  // A storm of cancels: every call ends, and the session works afterwards.
  OK(peregrine_session_undo(at.session, NULL));
  CHECK(pthread_create(&at.thread, NULL, again_and_again, at.cancel) == 0);
  for (int i = 0; i < 20; i++) {
    OK(peregrine_session_send(at.session, STORY, NULL, NULL, NULL, &finish));
    CHECK(finish == PEREGRINE_FINISH_CANCELLED);
  }
  ended = 1;
  CHECK(pthread_join(at.thread, NULL) == 0);
  OK(peregrine_session_clear(at.session));
  say(at.session, STORY, 60, &part);
  CHECK(strcmp(whole.text, part.text) == 0);

  // Freed in the middle of its own answer: that is cancelled, and the slot is free again.
  OK(peregrine_session_clear(at.session));
  forget(&at.part);
  OK(peregrine_session_send(at.session, STORY, NULL, free_it, &at, &finish));
  CHECK(finish == PEREGRINE_FINISH_CANCELLED && at.part.pieces >= 1 && at.part.pieces < 5);
  at.session = begin(at.engine);
  CHECK(position(at.session) == 0);
  peregrine_session_free(begin(at.engine));

  // The handle outlives the session and the engine.
  peregrine_session_free(at.session);
  peregrine_engine_free(at.engine);
  peregrine_cancel(at.cancel);
  peregrine_cancel_free(at.cancel);
  return 0;
}
