// What the test programs share.

#ifndef CHECK_H
#define CHECK_H

#define _POSIX_C_SOURCE 200809L
#include <peregrine.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Ends the program unless a condition holds.
#define CHECK(condition)                                                                                       \
  do {                                                                                                         \
    if (!(condition)) {                                                                                        \
      fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition, peregrine_last_error());  \
      exit(1);                                                                                                 \
    }                                                                                                          \
  } while (0)
#define OK(call) CHECK((call) == PEREGRINE_OK)
// A call fails with a status and a text that contains these words.
#define FAILS(call, status, words)                            \
  do {                                                        \
    CHECK((call) == (status));                                \
    CHECK(strstr(peregrine_last_error(), (words)) != NULL);   \
  } while (0)

// A text that grows as pieces come.
typedef struct {
  char text[16384];
  size_t size;
  int pieces;
  int most;  // pieces after which it wants no more; 0: any number
} heard;

static int hear(const char *text, size_t size, void *user) {
  heard *to = (heard *)user;
  CHECK(text[size] == '\0' && to->size + size < sizeof to->text);
  memcpy(to->text + to->size, text, size + 1);
  to->size += size;
  to->pieces++;
  return to->most != 0 && to->pieces >= to->most;
}

static inline void forget(heard *heard) { memset(heard, 0, sizeof *heard); }

static inline peregrine_engine *load_slots(const char *path, size_t slots) {
  peregrine_engine *engine;
  peregrine_engine_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.slots = slots;
  OK(peregrine_engine_load(path, &options, NULL, NULL, &engine));
  return engine;
}

static inline peregrine_answer_options tokens(size_t most) {
  peregrine_answer_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.max_tokens = most;
  return options;
}

static inline peregrine_session *begin(peregrine_engine *engine) {
  peregrine_session *session;
  OK(peregrine_session_new(engine, NULL, &session));
  return session;
}

static inline void say(peregrine_session *session, const char *text, size_t most, heard *answer) {
  peregrine_answer_options options = tokens(most);
  forget(answer);
  OK(peregrine_session_send(session, text, &options, hear, answer, NULL));
}

static inline uint64_t position(peregrine_session *session) {
  uint64_t position;
  OK(peregrine_session_position(session, &position));
  return position;
}

#endif
