// A chat on the C interface. After `make c`:
//   cc -std=c11 -Itarget/c/include examples/c/chat.c -Ltarget/c/lib -lperegrine -Wl,-rpath,target/c/lib -pthread -o chat
//   ./chat models/tiny-chat
// Ctrl-C ends an answer, /undo takes back the last message, Ctrl-D ends the chat.

#define _POSIX_C_SOURCE 200809L
#include <peregrine.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(peregrine_status status) {
  if (status != PEREGRINE_OK) {
    fprintf(stderr, "chat: %s\n", peregrine_last_error());
    exit(1);
  }
}

static void show_progress(uint64_t done, uint64_t total, void *user) {
  (void)user;
  fprintf(stderr, "\r%llu of %llu bytes%s", (unsigned long long)done, (unsigned long long)total, done == total ? "\n" : "");
}

static int show_piece(const char *text, size_t size, void *user) {
  (void)user;
  fwrite(text, 1, size, stdout);
  fflush(stdout);
  return 0;  // anything else would end the answer
}

// Waits for Ctrl-C: a signal handler may not call the library, a thread may.
static void *stop_answers(void *cancel) {
  sigset_t interrupt;
  int received;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  while (sigwait(&interrupt, &received) == 0) peregrine_cancel((peregrine_cancel_handle *)cancel);
  return NULL;
}

int main(int argc, char **argv) {
  peregrine_engine *engine;
  peregrine_session *session;
  peregrine_cancel_handle *cancel;
  pthread_t stopper;
  sigset_t interrupt;
  char line[4096];

  // Blocked here and in the threads that are started later; `stop_answers` receives it.
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  pthread_sigmask(SIG_BLOCK, &interrupt, NULL);

  check(peregrine_engine_load(argc > 1 ? argv[1] : "models/tiny-chat", NULL, show_progress, NULL, &engine));
  check(peregrine_session_new(engine, NULL, &session));
  check(peregrine_session_cancel_handle(session, &cancel));
  if (pthread_create(&stopper, NULL, stop_answers, cancel) != 0) return 1;

  while (fputs("> ", stdout), fflush(stdout), fgets(line, sizeof line, stdin)) {
    peregrine_finish finish = PEREGRINE_FINISH_FAILED;
    peregrine_status status;
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, "/undo") == 0) {
      status = peregrine_session_undo(session, NULL);
    } else {
      status = peregrine_session_send(session, line, NULL, show_piece, NULL, &finish);
      puts(finish == PEREGRINE_FINISH_CANCELLED ? " (stopped)" : "");
    }
    // The conversation is as before, so the chat goes on.
    if (status != PEREGRINE_OK) fprintf(stderr, "chat: %s\n", peregrine_last_error());
  }

  pthread_cancel(stopper);
  pthread_join(stopper, NULL);
  peregrine_cancel_free(cancel);
  peregrine_session_free(session);
  peregrine_engine_free(engine);
  return 0;
}
