// A device that is lost in an answer, by PEREGRINE_LOSE_AFTER: the session goes on after `peregrine_engine_recover`.
// lost MODEL

#include "check.h"

int main(int argc, char **argv) {
  static heard answer;
  peregrine_engine *engine;
  peregrine_session *session;
  peregrine_finish finish = PEREGRINE_FINISH_END;
  peregrine_status status;
  int reopened = -1;
  CHECK(argc == 2);
  engine = load_slots(argv[1], 1);
  session = begin(engine);
  status = peregrine_session_send(session, "Tell me a story about a fox.", NULL, hear, &answer, &finish);
  FAILS(status, PEREGRINE_DEVICE_LOST, "the GPU device was lost");
  CHECK(finish == PEREGRINE_FINISH_FAILED && answer.size > 0);
  FAILS(peregrine_session_resume(session, NULL, NULL, NULL, NULL), PEREGRINE_DEVICE_LOST, "reopen it");
  OK(peregrine_engine_recover(engine, NULL, NULL, &reopened));
  CHECK(reopened == 1);
  OK(peregrine_session_resume(session, NULL, hear, &answer, &finish));
  CHECK(finish == PEREGRINE_FINISH_END);
  OK(peregrine_engine_recover(engine, NULL, NULL, &reopened));
  CHECK(reopened == 0);
  printf("%s", answer.text);
  peregrine_session_free(session);
  peregrine_engine_free(engine);
  return 0;
}
