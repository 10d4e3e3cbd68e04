// A thousand sessions, two at a time, leak neither slots nor memory.
// sessions MODEL

#include "check.h"
#include <unistd.h>

// Resident memory in bytes.
static long resident(void) {
  long all, pages;
  FILE *file = fopen("/proc/self/statm", "r");
  CHECK(file != NULL && fscanf(file, "%ld %ld", &all, &pages) == 2);
  fclose(file);
  return pages * sysconf(_SC_PAGESIZE);
}

// Uses one session and a copy of it in every way that gives something out.
static void one(peregrine_engine *engine) {
  peregrine_session *session = begin(engine), *other, *none;
  peregrine_cancel_handle *cancel;
  peregrine_bytes *snapshot;
  peregrine_mark *mark;
  peregrine_answer_options options = tokens(2);
  uint32_t ids[] = {5, 6, 7, 8};
  OK(peregrine_session_cancel_handle(session, &cancel));
  OK(peregrine_session_feed(session, ids, 4));
  OK(peregrine_session_mark(session, &mark));
  OK(peregrine_session_fork(session, &other));
  FAILS(peregrine_session_fork(session, &none), PEREGRINE_NO_FREE_SLOT, "all 2 slots");
  OK(peregrine_session_generate(other, ids, 1, &options, NULL, NULL, NULL));
  CHECK(position(other) > position(session));
  OK(peregrine_session_snapshot(session, &snapshot));
  OK(peregrine_session_restore(session, peregrine_bytes_data(snapshot), peregrine_bytes_size(snapshot), NULL));
  OK(peregrine_session_back_to(session, mark));
  peregrine_session_free(other);
  peregrine_mark_free(mark);
  peregrine_bytes_free(snapshot);
  peregrine_session_free(session);
  peregrine_cancel_free(cancel);
}

int main(int argc, char **argv) {
  peregrine_engine *engine;
  uint64_t device[2];
  long host[2];
  int i;
  CHECK(argc == 2);
  engine = load_slots(argv[1], 2);
  // The first hundred grow what is allocated once.
  for (i = 0; i < 100; i++) one(engine);
  host[0] = resident();
  OK(peregrine_engine_memory(engine, &device[0]));
  for (; i < 1100; i++) one(engine);
  host[1] = resident();
  OK(peregrine_engine_memory(engine, &device[1]));
  fprintf(stderr, "1000 sessions: %ld KiB of host memory, %ld of device memory\n", (host[1] - host[0]) / 1024,
          (long)device[1] - (long)device[0]);
  CHECK(device[0] == device[1]);
  // Less than a kilobyte each.
  CHECK(host[1] - host[0] < 1 << 20);
  peregrine_engine_free(engine);
  return 0;
}
