// Two models at once, and several threads.
// threads MODEL OTHER-MODEL

#include "check.h"

#define THREADS 4
#define ROUNDS 3

static const uint32_t PROMPT[] = {5, 6, 7, 8, 9, 10};

typedef struct job {
  peregrine_engine *engine;
  peregrine_session *shared;
  const heard *expected;
} job;

static void answer(peregrine_session *session, heard *to) {
  peregrine_answer_options options = tokens(24);
  forget(to);
  OK(peregrine_session_generate(session, PROMPT, 6, &options, hear, to, NULL));
}

// Sessions of its own give what they give alone; a session that it shares is busy or answers.
static void *work(void *user) {
  job *job = (struct job *)user;
  heard *mine = (heard *)malloc(sizeof(heard));
  CHECK(mine != NULL);
  for (int round = 0; round < ROUNDS; round++) {
    peregrine_session *session = begin(job->engine);
    answer(session, mine);
    CHECK(strcmp(mine->text, job->expected->text) == 0);
    peregrine_session_free(session);
    for (int i = 0; i < 20; i++) {
      peregrine_answer_options options = tokens(2);
      peregrine_status status = peregrine_session_generate(job->shared, PROMPT, 2, &options, NULL, NULL, NULL);
      CHECK(status == PEREGRINE_OK || status == PEREGRINE_BUSY);
    }
  }
  free(mine);
  return NULL;
}

int main(int argc, char **argv) {
  static heard expected[2];
  peregrine_engine *engines[2];
  peregrine_session *shared[2], *session;
  peregrine_mark *mark;
  peregrine_bytes *snapshot;
  pthread_t threads[THREADS];
  job jobs[THREADS];
  CHECK(argc == 3);
  for (int i = 0; i < 2; i++) {
    engines[i] = load_slots(argv[1 + i], THREADS / 2 + 1);
    session = begin(engines[i]);
    answer(session, &expected[i]);
    peregrine_session_free(session);
    shared[i] = begin(engines[i]);
  }
  CHECK(strcmp(expected[0].text, expected[1].text) != 0);
  for (int i = 0; i < THREADS; i++) {
    job one = {engines[i % 2], shared[i % 2], &expected[i % 2]};
    jobs[i] = one;
    CHECK(pthread_create(&threads[i], NULL, work, &jobs[i]) == 0);
  }
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);

  // What belongs to one model is refused by the other.
  OK(peregrine_session_mark(shared[0], &mark));
  FAILS(peregrine_session_back_to(shared[1], mark), PEREGRINE_INVALID_ARGUMENT, "mark is of another engine");
  OK(peregrine_session_snapshot(shared[0], &snapshot));
  FAILS(peregrine_session_restore(shared[1], peregrine_bytes_data(snapshot), peregrine_bytes_size(snapshot), NULL),
        PEREGRINE_STATE_OF_ANOTHER_MODEL, "the state belongs to another model");

  // Freed in any order.
  for (int i = 0; i < 2; i++) {
    peregrine_engine_free(engines[i]);
    peregrine_session_free(shared[i]);
  }
  peregrine_mark_free(mark);
  peregrine_bytes_free(snapshot);
  return 0;
}
