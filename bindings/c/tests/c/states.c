// Snapshots, in files for other processes.
// states save MODEL FILE: has a conversation, saves it, goes on, and prints how
// states go-on MODEL FILE: continues from the file, and prints how
// states leak MODEL: leaks one snapshot
// states refuse MODEL FILE: prints the status and the text of refusing the file

#include "check.h"

static void go_on(peregrine_session *session) {
  static heard answer;
  say(session, "Tell me a story about a bear.", 60, &answer);
  printf("%s", answer.text);
}

static uint8_t *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  uint8_t *bytes;
  CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
  *size = (size_t)ftell(file);
  rewind(file);
  bytes = (uint8_t *)malloc(*size);
  CHECK(bytes != NULL && fread(bytes, 1, *size, file) == *size);
  fclose(file);
  return bytes;
}

int main(int argc, char **argv) {
  static heard answer;
  peregrine_engine *engine;
  peregrine_session *session;
  peregrine_bytes *snapshot, *warnings;
  uint8_t *bytes;
  size_t size;
  CHECK(argc >= 3);
  engine = load_slots(argv[2], 1);
  session = begin(engine);
  if (strcmp(argv[1], "save") == 0) {
    FILE *file = fopen(argv[3], "wb");
    say(session, "Tell me a story about a fox.", 20, &answer);
    OK(peregrine_session_snapshot(session, &snapshot));
    CHECK(file != NULL);
    size = peregrine_bytes_size(snapshot);
    CHECK(fwrite(peregrine_bytes_data(snapshot), 1, size, file) == size && fclose(file) == 0);
    peregrine_bytes_free(snapshot);
    go_on(session);
  } else if (strcmp(argv[1], "leak") == 0) {
    OK(peregrine_session_snapshot(session, &snapshot));
    snapshot = NULL;
  } else {
    bytes = read_file(argv[3], &size);
    if (strcmp(argv[1], "refuse") == 0) {
      peregrine_status status = peregrine_session_restore(session, bytes, size, &warnings);
      CHECK(status != PEREGRINE_OK && warnings == NULL && position(session) == 0);
      printf("%d %s", (int)status, peregrine_last_error());
    } else {
      OK(peregrine_session_restore(session, bytes, size, &warnings));
      if (warnings != NULL) fprintf(stderr, "%s\n", peregrine_bytes_text(warnings));
      CHECK(warnings == NULL);
      go_on(session);
    }
    free(bytes);
  }
  peregrine_session_free(session);
  peregrine_engine_free(engine);
  return 0;
}
