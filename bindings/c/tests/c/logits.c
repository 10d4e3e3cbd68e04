// Reads token ids from its input, and writes the logits after them as floats.
// logits MODEL

#include "check.h"

int main(int argc, char **argv) {
  static uint32_t ids[4096];
  size_t count = 0, vocabulary;
  peregrine_engine *engine;
  peregrine_session *session;
  float *logits;
  CHECK(argc == 2);
  while (count < 4096 && scanf("%u", &ids[count]) == 1) count++;
  engine = load_slots(argv[1], 1);
  session = begin(engine);
  OK(peregrine_engine_vocabulary(engine, &vocabulary));
  logits = (float *)malloc(vocabulary * sizeof *logits);
  OK(peregrine_session_feed(session, ids, count));
  OK(peregrine_session_logits(session, logits, vocabulary));
  CHECK(fwrite(logits, sizeof *logits, vocabulary, stdout) == vocabulary);
  free(logits);
  peregrine_session_free(session);
  peregrine_engine_free(engine);
  return 0;
}
